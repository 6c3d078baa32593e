"""Focal loss: what is already right counts less."""

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class Focal(Loss, title="Focal loss", paper="arXiv:1708.02002"):
    """Turn down the tokens that the model gets right, so that rare and hard ones are heard.

    $$L = -\\frac{1}{M} \\sum_t m_t (1 - q_t)^{\\gamma} \\log q_t$$

    Unlike the losses that only weigh, its factor carries a gradient of its own. The weights given here have that whole gradient:
    (1 − q)^γ · (1 + γ q · (−log q) / (1 − q)), by the chain rule [D], so the objective that is plotted is not the formula's
    value. From detection of objects; on language it helps where classes are few and uneven.
    """

    neutral = {"gamma": 0.0}

    gamma: float = knob(2.0, ge=0, le=8, help="γ: 0 is cross-entropy, more looks harder at what is wrong", step=0.1)

    def weights(self, stats: TokenStats) -> Tensor:
        surprise = -stats.logp.detach().clamp(max=-1e-6)
        wrong = -torch.expm1(-surprise)
        return wrong**self.gamma * (1 + self.gamma * (1 - wrong) * surprise / wrong)
