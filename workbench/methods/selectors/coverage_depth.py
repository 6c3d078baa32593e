"""Coverage and depth: from every cell of a map the rows that have most to say. The map is `materials/terrain.py`.

What it is not: ILA itself. Its full text could not be had, and what is here is built from what is told of it. Tags as in the project's
notes: [A] abstract only, [REC] our reconstruction, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence
from typing import Literal

import torch
from torch import Tensor

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.core.words import count as counted
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.following import difficulty
from workbench.materials.pooling import Pooling
from workbench.materials.ranking import budget
from workbench.materials.rows import Example
from workbench.materials.terrain import cells, flat, quotas
from workbench.methods.contracts import Selection, Selector

WHAT = "depth in nats"


class CoverageDepth(Reads, Selector, title="Coverage and depth, after the idea of ILA", paper="arXiv:2509.06463"):
    """Lay the rows out on a map and keep from every cell of it the rows that have most to say.

    $$q_c \\approx k \\, \\frac{n_c^{\\alpha}}{\\sum n^{\\alpha}}, \\qquad
    d_i = \\sum_t -\\log p(y_t \\mid x, y_{<t}) \\cdot 1[\\mathrm{IFD}_i < 1]$$

    The map is the two main axes of what a model makes of the rows, parted into G columns and G lines that hold equally many [REC]. A cell
    of n rows keeps at least one and about q of them, those with the greatest depth d: what the answer still costs the model, added up over
    its tokens, if the question helps with it (IFD below 1), and nothing otherwise [REC]. Rows that ask nothing count in full [O]. At
    α = 0 all cells keep as many, at 1 each the same share of its rows.

    The paper counts coverage on such a map and takes the loss that training removes as depth [A]; without training, what there is to
    remove stands for it here. It keeps rare kinds, as k-center does, without its taste for odd rows; but depth grows with the length of
    an answer, and what is broken is deep as well. A row of which nothing is learnt has no depth and never stays, nor does one whose answer
    is not read to the end together with its question, which leaves it without an IFD.

    Three readings of each row: for its vector, its answer, and its answer alone.
    """

    passes = 3

    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    alpha: float = knob(0.5, ge=0, le=1, step=0.05, help="how far large cells keep more rows: 0 as many as others, 1 as large a share")
    aligned: bool = knob(True, help="count a row as deep only where its question helps with its answer")
    grid: int = knob(0, ge=0, le=256, help="columns and lines of the map; 0 takes so many that about four rows of a cell stay", more=True)
    text: Literal["row", "question", "answer"] = knob(
        "row", help="which text is laid out: the whole row, its question, or its answer", more=True
    )
    pooling: Pooling = knob(
        "mean", help="how tokens become one vector: mean, later ones more, the last, or mean with summaries before them (htp)", more=True
    )

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        if not len(examples):
            return Selection([])
        depths, without = yield from self._depths(examples, around)
        vectors = yield from around.vectors(examples, self.model, self.pooling, self.text)
        count = budget(self.share, len(examples))
        yield Progress(len(examples), len(examples), "rows laid out")
        cell = cells(flat(vectors), self.grid or max(1, math.ceil(math.sqrt(count / 4))))
        return self._selection(depths, without, cell, count)

    def _depths(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, tuple[Tensor, dict[int, str]]]:
        """((N,) float64 the depth of each row, why some have none), of which it is NaN."""
        asked = yield from around.surprise(examples, self.model)
        depths = asked[:, 0].double().where(asked[:, 1] > 0, torch.nan)
        without = dict.fromkeys(depths.isnan().nonzero()[:, 0].tolist(), "nothing of it is learnt")
        if not self.aligned:
            return depths, without
        alone = yield from around.surprise(examples, self.model, alone=True)
        helped = difficulty(asked, alone, "perplexities")
        for row, example in enumerate(examples):
            if row % 1000 == 0:
                yield Progress(row, len(examples), "rows looked at")
            if row in without or helped[row] < 1 or not example.question().strip():
                continue
            if helped[row] >= 1:
                depths[row] = 0.0
            else:  # it has no IFD
                depths[row], without[row] = math.nan, "its answer is not read to the end together with its question"
        return depths, without

    def _selection(self, depths: Tensor, without: dict[int, str], cell: Tensor, count: int) -> Selection:
        there = (~depths.isnan()).nonzero()[:, 0]
        sizes = cell[there].bincount()
        quota = torch.tensor(quotas(sizes.tolist(), count, self.alpha), dtype=torch.int64)
        rows = there[depths[there].argsort(descending=True, stable=True)]
        rows = rows[cell[rows].argsort(stable=True)]  # cell by cell, in each the deepest first
        place = torch.arange(len(rows)) - (sizes.cumsum(0) - sizes)[cell[rows]]
        kept = torch.zeros(len(depths), dtype=torch.bool).index_fill(0, rows[place < quota[cell[rows]]], True).tolist()
        scores = [depth if depth == depth else math.nan for depth in depths.tolist()]
        reasons = {row: f"{WHAT}: there is none, because {why}" for row, why in without.items()}
        held, stay = sizes.tolist(), quota.tolist()
        for row, where in zip(rows.tolist(), cell[rows].tolist(), strict=True):
            if not kept[row]:
                keeps = f"its place on the map keeps the deepest {stay[where]:,} of {counted(held[where], 'row')}"
                reasons[row] = f"{WHAT}: {number(scores[row])}; {keeps}"
        return Selection(kept, reasons, scores, (), WHAT)
