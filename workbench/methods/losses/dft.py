"""DFT: a token counts as much as the model already believes it. Formula [P][R] of the paper and its repository; the power is ours."""

from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class DFT(Loss, title="DFT (dynamic fine-tuning)", paper="arXiv:2508.05629"):
    """Weigh each token by the probability the model gives it now, without gradient through the weight.

    $$L = -\\frac{1}{M} \\sum_t m_t\\, \\mathrm{sg}[q_t^{\\beta}] \\log q_t, \\qquad q_t = p_t(y_t)$$

    At β = 1 this is the paper's DFT, and its gradient is that of −Σ q: a token with q near 0 teaches nothing, so it
    sharpens what the model half knows and cannot teach what is quite new [own derivation]. At β = 0 it is
    cross-entropy; values between are ours. The paper reports gains on mathematics, and its authors losses on literary and
    financial text. The loss is at most 1/e a token: do not compare its height with cross-entropy's.
    """

    neutral = {"power": 0.0}

    power: float = knob(1.0, ge=0, le=1, help="β: 1 is DFT, 0 is cross-entropy", step=0.05)

    def weights(self, stats: TokenStats) -> Tensor:
        return stats.logp.detach().exp() ** self.power
