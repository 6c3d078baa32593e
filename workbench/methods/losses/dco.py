"""DCO: train for one right answer among N tries. Formula [R][N] of the paper and its repository; the stable form is ours [D]."""

import math

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class DCO(Loss, title="DCO (direct coverage)", paper="arXiv:2502.07154"):
    """Weigh each answer by what making it likelier adds to the chance that one of N tries is right.

    $$L_N = -\\log\\big(1 - (1-\\hat p)^N\\big), \\quad \\nabla L_N = F\\,\\nabla(-\\log \\hat p), \\quad
    F = \\frac{N (1-\\hat p)^{N-1}\\, \\hat p}{1 - (1-\\hat p)^N}$$

    p̂ is the probability of the whole answer, the product over its tokens. F is 1 where p̂ is near 0, about 0.58 at p̂ = 1/N, and
    nothing where N tries find the answer anyway: it stops the model from growing surer of what it has. Set N to the number of
    tries at the test. Only for short answers that can be checked: of a long one p̂ is near 0 and this is cross-entropy. The
    paper takes the mean over answers; here, as everywhere, it is over trained tokens [O]. It replaces answers with F near
    0 by others [R]; here they stay and add nothing.
    """

    neutral = {"tries": 1}

    tries: int = knob(16, ge=1, le=100_000, help="N: tries of which one has to be right; 1 is cross-entropy", log=True)

    def weights(self, stats: TokenStats) -> Tensor:
        whole = stats.summed(stats.logp.detach()).double().clamp(max=-1e-7)
        miss = torch.log(-torch.expm1(whole))  # log (1 − p̂)
        found = torch.log(-torch.expm1(self.tries * miss))  # log of the chance that one of N tries is right
        factor = torch.exp(math.log(self.tries) + (self.tries - 1) * miss + whole - found)
        hopeless = whole + math.log(self.tries) < -30  # 1 − p̂ rounds to 1; F is 1 to thirteen digits
        return torch.where(hopeless, 1.0, factor).to(stats.logp.dtype)
