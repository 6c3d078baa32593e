"""GOT-D: the rows to which mass would have to move for the whole set to come nearer to a target.

Get more for less: Principled Data Selection for Warming Up Fine-Tuning in LLMs, Kang, Just, Sun, Jahagirdar, Zhang, Du, Sahu and Jia, 2024.
arXiv:2405.02774. Tags as in the project's notes: [P] paper, [R] read in the published notebooks (DV4LLM), [K] known, [O] our own choice.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Literal

import torch

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.materials.around import Around
from workbench.materials.overlap import need_text
from workbench.materials.ranking import best
from workbench.materials.rows import Chosen, Example
from workbench.materials.transport import calibrated, cosine_cost, potentials
from workbench.methods.contracts import Selection, Selector

TARGETS = 1000  # rows of the target that are looked at; of more some are drawn [O]


class GotD(Reads, Selector, title="GOT-D: gradients of transport", paper="arXiv:2405.02774"):
    """Keep the rows that bring this set nearest to a target: those whose weight would most lower the cost of carrying one onto the other.

    $$\\hat g_j = g_j - \\sum_l b_l g_l, \\qquad g = \\frac{\\partial\\, \\mathrm{OT}_\\varepsilon(a, b)}{\\partial b}$$

    a is the target's rows and b this set's, all of the same weight, and carrying from one to the other costs 1 minus the cosine of what a
    model makes of both [O]; theirs is the squared distance [R]. The light tuning that follows a long training works as if on a mixture of
    both [P]: what helps is therefore not what is most like the target but what the old set lacks of it. This set stands for what the model
    was trained on. g comes from Sinkhorn's iterations with a blur ε. Left of 0 in the picture a row helps, right of it it hurts, if more
    weight is put on it [K].

    It knows nothing of variety: all copies of a good row are taken, so drop copies first. Very short rows lie close together whatever they
    say; the authors cut and join all texts to 1,000 letters [R], which we do not, as rows stay whole here [O]. Of a target with more than
    1,000 rows as many are drawn.

    Each row is read once by the model. For 100,000 rows and 1,000 targets an iteration of the specification's prototype took 3 to 5 s of
    one core; a few are enough.
    """

    target: str = knob("", help="name of the data set that this one is to come nearer to", names="data", label="target set")
    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    text: Literal["row", "question", "answer"] = knob("row", help="which text is compared: the whole row, its question, or its answer")
    blur: float = knob(0.05, ge=0.005, le=10, help="how far mass is spread; small is exact and slow", label="blur ε", log=True, more=True)
    tolerance: float = knob(1e-3, ge=1e-6, le=0.1, help="how little g must move for the iterations to end", log=True, more=True)
    most: int = knob(500, ge=1, le=100_000, help="iterations at most", label="iterations", log=True, more=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which rows of a large target are drawn", more=True)

    def others(self) -> list[str]:
        return [self.target] if self.target else []

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        wanted = self._drawn(around.rows(self.target, self.title()))
        need_text(wanted, self.text)
        if not len(examples):
            return Selection([])
        targets = yield from around.vectors(wanted, self.model, "mean", self.text)
        vectors = yield from around.vectors(examples, self.model, "mean", self.text)
        a, b = (torch.full((len(each),), 1 / len(each)) for each in (targets, vectors))
        _, g = yield from potentials(cosine_cost(targets, vectors), a, b, self.blur, self.tolerance, self.most)
        found = best(calibrated(g, b).tolist(), self.share, "cost that its weight adds", lowest=True)
        return replace(found, cuts=(*found.cuts, 0.0))

    def _drawn(self, wanted: Sequence[Example]) -> Sequence[Example]:
        if len(wanted) <= TARGETS:
            return wanted
        draw = torch.Generator().manual_seed(self.seed)
        return Chosen(wanted, torch.randperm(len(wanted), generator=draw)[:TARGETS].sort().values.tolist())
