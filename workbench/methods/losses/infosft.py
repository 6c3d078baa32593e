"""InfoSFT: learn most from what is neither known nor hopeless. Formula and the default of P [R] of its repository."""

import math

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class InfoSFT(Loss, title="InfoSFT", paper="arXiv:2605.14967"):
    """Weigh each token by its probability and by how far its log-odds lie below a limit.

    $$L = -\\frac{1}{M} \\sum_t m_t\\, \\mathrm{sg}[w(q_t)] \\log q_t, \\qquad
    w(q) = q\\,\\Big[1 - \\frac{\\mathrm{logit}(q)}{\\mathrm{logit}(P)}\\Big]_+$$

    q is the current model's probability of the token, without gradient, although the abstract speaks of the base's [R]. What is
    likelier than P is left alone, what is quite unlikely too; w(½) = ½ for every P, and the pull on the logit, w·(1 − q), is
    strongest near q = 0.35 [M]. The paper's own form is not divided by logit(P) [N], which only scales the learning rate. For
    a format that is very new its authors advise an epoch of cross-entropy first [R].
    """

    neutral = None

    limit: float = knob(0.93, gt=0.5, lt=1, help="P: tokens likelier than this are left alone", step=0.01)

    def weights(self, stats: TokenStats) -> Tensor:
        logp = stats.logp.detach().double().clamp(max=-1e-12)  # log-odds near certainty need more digits than float32 has
        odds = logp - torch.log(-torch.expm1(logp))
        room = (1 - odds / math.log(self.limit / (1 - self.limit))).clamp(min=0)
        return (logp.exp() * room).to(stats.logp.dtype)
