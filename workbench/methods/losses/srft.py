"""SRFT's weight for demonstrations: an unsure model takes smaller steps. Formula [P]; its reinforcement half is not here."""

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class SRFT(Loss, title="SRFT (demonstrations)", paper="arXiv:2506.19767"):
    """Scale the whole batch by how sure the model is of it.

    $$L = -\\frac{1}{M}\\, c\\,\\mathrm{sg}[e^{-\\bar H}] \\sum_t m_t \\log q_t$$

    H̄ is the mean entropy of the model over the learnt tokens, in nats; the paper does not say over what it is taken, here it
    is the batch. All tokens of a batch keep their proportions, so this is a learning rate that follows the model's certainty.
    The method's other terms need answers drawn from the model and a judge, and are not here.
    """

    neutral = None

    scale: float = knob(0.5, gt=0, le=4, help="c: the weight at certainty", step=0.1)

    def entropy_over(self) -> int:
        return 0

    def weights(self, stats: TokenStats) -> Tensor:
        assert stats.entropy is not None
        return torch.ones_like(stats.logp) * self.scale * torch.exp(-stats.mean(stats.entropy))
