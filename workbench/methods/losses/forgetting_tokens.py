"""Forgetting: tokens that a model tuned on other rows found no easier are pushed away instead of learnt.

Scores, the threshold over the whole data set, the rise of λ and the defaults [R] from the authors' repository. Four things are
ours: means over the accumulation window, where the repository takes them over a micro-batch [S]; no negative token is pushed
below chance [S]; λ rises to λ_max itself, not to 0.00001 less [S]; and of equal scores the earlier token is positive [S].
"""

import math
from decimal import Decimal

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class ForgettingTokens(Loss, title="Forgetting of tokens", paper="arXiv:2508.04329"):
    """Learn the tokens that another part of the data makes likelier, and unlearn the rest a little.

    $$L = \\frac{1}{|P|} \\sum_{t \\in P} \\ell_t - \\lambda\\, \\frac{1}{|N|} \\sum_{t \\in N} \\ell_t, \\qquad
    \\lambda = \\lambda_{\\max}\\, s, \\qquad \\ell_t = -\\log q_t$$

    The reference is the base tuned on rows that are kept out of this run. P holds the share ρ of all learnt tokens of the data set
    that became likelier most from the base to the reference, N the others; s is the share of the run that is over, so the
    forgetting starts at nothing. −λℓ has no lower bound: a negative token whose probability falls below 1/V, chance, adds
    nothing from then on, and still counts in |N|. The paper leaves open how the reference's own rows are chosen; train it first, on
    a data set of its own, and name that run here.
    """

    neutral = {"positive": 1.0}

    reference: str = knob("", help="the base tuned on other rows of the same kind: run:0001, model:NAME or a folder")
    positive: float = knob(0.7, ge=0, le=1, help="ρ: share of tokens that are learnt; 1 is cross-entropy", label="positive share")
    most: float = knob(0.25, ge=0, le=10, help="λ at the end: how strongly the others are unlearnt", step=0.05, label="forgetting")
    bounded: bool = knob(True, help="push no token below chance; the paper sets no bound", more=True)

    def costs(self) -> str:
        reading = "Before the first step the base and the reference read all rows once, and a score is kept for each token."
        return " ".join(part for part in (reading if self.positive < 1 else "", super().costs()) if part)

    def judges(self) -> list[str]:
        if self.positive == 1:
            return []
        if not self.reference.strip():
            raise WorkbenchError(
                "Forgetting of tokens has no reference, so nothing says which tokens to forget. Tune the base on other rows of the same "
                "kind, and name that run in loss.reference (such as run:0001); or set loss.positive to 1, which is cross-entropy."
            )
        return ["", self.reference.strip()]

    def scores(self, judged: Tensor) -> Tensor:
        base, reference = judged.unbind(-1)
        count = int(Decimal(str(self.positive)) * len(base))  # exact: as floats, 0.29 of 100 is 28
        signs = -torch.ones_like(base)
        signs[(reference - base).argsort(descending=True, stable=True)[:count]] = 1
        return signs

    def weights(self, stats: TokenStats) -> Tensor:
        if self.positive == 1:  # nobody judged
            return torch.ones_like(stats.logp)
        assert stats.score is not None and stats.window is not None
        learnt, total = (stats.window.score > 0).sum(), len(stats.window.score)
        up = total / learnt.clamp(min=1)
        down = -self.most * stats.share * total / (total - learnt).clamp(min=1)
        if self.bounded:
            down = torch.where(stats.logp.detach() < -math.log(stats.vocabulary), 0.0, down)
        return torch.where(stats.score > 0, up, down).to(stats.logp.dtype)
