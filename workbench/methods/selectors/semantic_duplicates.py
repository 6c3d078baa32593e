"""Semantic duplicates: rows that mean nearly the same, in whatever words. The groups are in `materials/clusters.py`.

Tags as in the project's notes: [R] read in published code.
"""

import math
from collections.abc import Generator, Sequence
from typing import Literal

import torch
from torch import Tensor

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.clusters import spherical
from workbench.materials.places import places
from workbench.materials.pooling import Pooling
from workbench.materials.rows import Example
from workbench.materials.spread import apart
from workbench.methods.contracts import Selection, Selector


class SemanticDuplicates(Reads, Selector, title="Semantic duplicates (SemDeDup)", paper="arXiv:2303.09540"):
    """Of rows whose vectors point nearly the same way keep one.

    $$\\text{drop } j \\text{ if } \\max_{i \\text{ kept before } j} \\cos(z_i, z_j) > 1 - \\varepsilon$$

    z is what a model makes of a row. Rows are parted into k groups by k-means, and only rows of a group are compared, so two that lie on
    either side of a border both stay. Within a group `order` decides which row of several is kept: `hard` begins with the rows farthest
    from the middle of the group, which the authors keep [R], `easy` with the nearest, `first` goes by the rows' order. A row is compared
    with those that were kept; the published rule compares with all earlier rows, also dropped ones, and drops somewhat more [R].

    It finds what near duplicates do not: the same said in other words. It also finds what only sounds the same: sums with other numbers,
    questions about another town. What is alike depends on the model, and with some models all vectors lie close together: look at
    the picture and at what is dropped before you take its default. Rows without a text are like none.

    One reading of each row, then about 10·N·√N·D products: seconds for 10,000 rows, minutes for a million.
    """

    mends = ("near in meaning",)

    epsilon: float = knob(0.05, gt=0, le=0.5, step=0.005, help="how far from the same two vectors are that count as one, as 1 − cosine")
    order: Literal["hard", "easy", "first"] = knob(
        "hard", help="which row of several is kept: the least typical of its group, the most, the first"
    )
    compare: Literal["row", "question", "answer"] = knob("row", help="what must be alike: the whole row, its question, or its answer")
    clusters: int = knob(0, ge=0, le=100_000, help="groups that are compared within; 0 takes half the root of the rows", more=True)
    pooling: Pooling = knob(
        "mean", help="how tokens become one vector: mean, later ones more, the last, or mean with summaries before them (htp)", more=True
    )
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which groups are found", more=True)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        if not len(examples):
            return Selection([])
        vectors = yield from around.vectors(examples, self.model, self.pooling, self.compare)
        count = self.clusters or min(2048, math.ceil(math.sqrt(len(vectors)) / 2))
        _, cluster, near = yield from spherical(vectors, min(count, len(vectors)), self.seed)
        there = yield from self._there(examples)
        found = yield from apart(vectors, self._orders(cluster, near, there), 1 - self.epsilon, len(vectors))
        kept, like = (found.kept | ~there).tolist(), found.like.tolist()
        where = yield from places(examples, {other for other, stays in zip(like, kept, strict=True) if not stays})
        return self._selection(kept, found.likest.tolist(), like, where)

    def _there(self, examples: Sequence[Example]) -> Generator[Progress, None, Tensor]:
        """(N,) whether a row has any text that could be compared."""
        there = torch.zeros(len(examples), dtype=torch.bool)
        for index, example in enumerate(examples):
            if index % 1000 == 0:
                yield Progress(index, len(examples), "rows looked at")
            there[index] = bool(example.part(self.compare).strip())
        return there

    def _orders(self, cluster: Tensor, near: Tensor, there: Tensor) -> list[Tensor]:
        """The rows of each group, in the order in which they are looked at."""
        sign = {"hard": 1, "easy": -1, "first": 0}[self.order]
        rows = (sign * near * 2**16).round().argsort(stable=True)  # rounded, so that copies go by their order
        rows = rows[there[rows]]
        rows = rows[cluster[rows].argsort(stable=True)]
        return list(rows.split(cluster[there].bincount().tolist()))

    def _selection(self, kept: list[bool], likest: list[float], like: list[int], where: dict[int, str]) -> Selection:
        scores = [cosine if other >= 0 else math.nan for cosine, other in zip(likest, like, strict=True)]
        reasons = {
            row: f"means nearly the same as {where[like[row]]}, which is kept; the cosine of their vectors is {number(scores[row])}"
            for row, stays in enumerate(kept)
            if not stays
        }
        cuts = (1 - self.epsilon,) if any(map(math.isfinite, scores)) else ()
        return Selection(kept, reasons, scores, cuts, "cosine to the nearest row kept before, in its group")
