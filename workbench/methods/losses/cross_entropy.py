"""Cross-entropy: every trained token counts alike."""

import torch
from torch import Tensor

from workbench.methods.contracts import Loss, TokenStats


class CrossEntropy(Loss, title="Cross-entropy"):
    """Make each answer token likelier, all alike: supervised fine-tuning (SFT).

    $$L = -\\frac{1}{M} \\sum_t m_t \\log p_t(y_t)$$

    M counts the trained tokens of the whole accumulation window, so that a long answer is not worth less than a short one.
    """

    def weights(self, stats: TokenStats) -> Tensor:
        return torch.ones_like(stats.logp)
