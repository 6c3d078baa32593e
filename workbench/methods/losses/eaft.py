"""EAFT: a token counts as much as the model is unsure of it. Formula, K and the scale [R] of its repository."""

import math

from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class EAFT(Loss, title="EAFT (entropy-adaptive)", paper="arXiv:2601.02151"):
    """Weigh each token by the entropy of the model's likeliest guesses, so that what it is sure of is not overwritten.

    $$L = -\\frac{1}{M} \\sum_t m_t\\, \\mathrm{sg}\\big[(H^{K}_t / \\ln K)^{\\alpha}\\big] \\log q_t$$

    H^K is the entropy of the K likeliest tokens taken as a whole: it does not look at the label, so a confident mistake
    weighs as little as a confident hit. That spares what the model knows and makes the method unfit for correcting facts [N]. The
    repository divides by 3.0 ≈ ln 20 [R]; ln K is the same for other K. The entropy of the whole vocabulary is on another scale.
    """

    neutral = {"power": 0.0}

    power: float = knob(1.0, ge=0, le=4, help="α: 0 is cross-entropy, more spares more", step=0.1)
    top: int = knob(20, ge=2, le=1000, help="K: how many of the likeliest tokens are looked at", more=True)

    def entropy_over(self) -> int:
        return self.top

    def weights(self, stats: TokenStats) -> Tensor:
        assert stats.entropy is not None
        return (stats.entropy / math.log(self.top)).clamp(0, 1) ** self.power
