"""Symmetric cross-entropy: a second term that a wrong label cannot pull far."""

from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class Symmetric(Loss, title="Symmetric cross-entropy", paper="arXiv:1908.06112"):
    """Cross-entropy and its reverse together, for labels of which some are wrong.

    $$L = \\frac{1}{M} \\sum_t m_t \\big[ \\alpha\\,(-\\log q_t) + \\beta\\,|A|\\,(1 - q_t) \\big]$$

    The second term is the reverse cross-entropy with log 0 set to A, and bounded: a label that the model finds impossible
    hardly moves it. Its gradient is that of DFT, so this is a mixture of cross-entropy and DFT [D]; the weights α + β |A| q
    have the whole gradient.
    """

    neutral = {"alpha": 1.0, "beta": 0.0}

    alpha: float = knob(0.1, ge=0, le=10, help="α: how much plain cross-entropy", step=0.1)
    beta: float = knob(1.0, ge=0, le=10, help="β: how much reverse cross-entropy", step=0.1)
    floor: float = knob(-4.0, ge=-20, lt=0, help="A: what stands for the logarithm of 0", more=True)

    def weights(self, stats: TokenStats) -> Tensor:
        return self.alpha - self.beta * self.floor * stats.logp.detach().exp()
