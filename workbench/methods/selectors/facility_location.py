"""Facility location: rows that stand for as much of all rows as can be. No paper of its own; the choice is in `materials/spread.py`.

Tags as in the project's notes: [K] known, [P] paper, [M→V] measured elsewhere, to be verified, [O] our own choice.
"""

from collections.abc import Generator, Sequence
from typing import Literal

import torch

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.pooling import Pooling
from workbench.materials.ranking import budget
from workbench.materials.rows import Example
from workbench.materials.spread import covering
from workbench.methods.contracts import Selection, Selector

GROUND = 20_000  # rows that are counted: beyond it the time grows and the choice hardly changes [O]


class FacilityLocation(Reads, Selector, title="Facility location"):
    """Keep rows such that every row is like one of them.

    $$\\max_S F(S) = \\sum_i \\max_{j \\in S} \\tfrac{1}{2}\\left(1 + \\cos(z_i, z_j)\\right)$$

    z is what a model makes of a row. Again and again the row is taken that raises F most; F is then at least 63 % of the best that as many
    rows can have [K]. Each row is worth the rows it stands for, so the middle of a large group comes first and odd rows come last: the
    opposite of k-center.

    With more than 20,000 rows the sum goes over a sample of 20,000 that the seed draws; any row may still be taken [O]. Where more rows
    stay than are counted, the rest of them is hardly told apart.

    Superfiltering takes 20 % by IFD first, and of those 2 % of all rows in this way [P: arXiv:2402.00530].

    One reading of each row, then about N·min(N, 20,000)·D products, and some more for each row that stays: 13 s of a core for 500 of 10,000
    rows where all products are held [M→V], which is not done here.

    Source: Minoux, 1978 (lazy greedy), no paper of its own.
    """

    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    text: Literal["row", "question", "answer"] = knob("row", help="which text is read: the whole row, its question, or its answer")
    pooling: Pooling = knob(
        "mean", help="how tokens become one vector: mean, later ones more, the last, or mean with summaries before them (htp)", more=True
    )
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which rows are counted where there are more than 20,000", more=True)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        if not len(examples):
            return Selection([])
        vectors = yield from around.vectors(examples, self.model, self.pooling, self.text)
        ground = vectors
        if len(vectors) > GROUND:
            draw = torch.Generator().manual_seed(self.seed)
            ground = vectors[torch.randperm(len(vectors), generator=draw)[:GROUND].sort().values]
        chosen, brings = yield from covering(vectors, ground, budget(self.share, len(vectors)))
        kept, scores = torch.zeros(len(vectors), dtype=torch.bool).index_fill(0, chosen, True).tolist(), brings.tolist()
        least, most = scores[int(chosen[-1])], max((score for score, stays in zip(scores, kept, strict=True) if not stays), default=0.0)
        reasons = {
            row: f"would stand for at most {number(scores[row])} rows more; the {len(chosen):,} that stay brought {number(least)} or more"
            for row, stays in enumerate(kept)
            if not stays
        }
        return Selection(
            kept, reasons, scores, ((least + most) / 2,) if reasons else (), f"rows of {len(ground):,} that it stands for anew"
        )
