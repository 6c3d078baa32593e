"""k-center: rows that leave no row far from one that stays. No paper of its own; the choice is in `materials/spread.py`.

Tags as in the project's notes: [K] known, [M→V] measured elsewhere, to be verified, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence
from typing import Literal

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.places import places
from workbench.materials.pooling import Pooling
from workbench.materials.ranking import budget
from workbench.materials.rows import Example
from workbench.materials.spread import farthest
from workbench.methods.contracts import Selection, Selector

WHAT = "distance to the nearest row that stays, as 1 − cosine"


class KCenter(Reads, Selector, title="k-center (farthest first)"):
    """Keep rows that lie so far apart that every other row is near one of them.

    $$s_j = \\arg\\max_i \\min_{s \\text{ kept}} \\left(1 - \\cos(z_i, z_s)\\right)$$

    z is what a model makes of a row. The first row is the one nearest to the mean of all [O], each further one the farthest from all that
    stay. As the crow flies between the ends of the vectors, no row then lies more than twice as far from one that stays as the best
    choice of as many rows would leave it [K]; the cosine is no such distance, for it grows with the square.

    It reaches the edges of a data set, the rare kinds and the odd rows, with the fewest rows. Odd rows are often broken, and it takes
    those first: clean the data before. It says nothing of how many rows are like one that stays; facility location does.

    One reading of each row, then N·k·D products for k rows that stay: 17.5 s of a core for a thousand of 100,000 rows [M→V], so hours for
    50,000 of a million.

    Source: Gonzalez, 1985; for choosing what to learn from, Sener and Savarese, arXiv:1708.00489.
    """

    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    text: Literal["row", "question", "answer"] = knob("row", help="which text is read: the whole row, its question, or its answer")
    pooling: Pooling = knob(
        "mean", help="how tokens become one vector: mean, later ones more, the last, or mean with summaries before them (htp)", more=True
    )

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        if not len(examples):
            return Selection([])
        vectors = yield from around.vectors(examples, self.model, self.pooling, self.text)
        chosen, far, like = yield from farthest(vectors, budget(self.share, len(vectors)))
        kept = [False] * len(vectors)
        for row in chosen.tolist():
            kept[row] = True
        scores, nearest = [score if math.isfinite(score) else math.nan for score in far.tolist()], like.tolist()
        where = yield from places(examples, {other for other, stays in zip(nearest, kept, strict=True) if not stays})
        reasons = {
            row: f"lies {number(scores[row])} from {where[nearest[row]]}, which stays (1 − cosine); the {len(chosen):,} farthest stay"
            for row, stays in enumerate(kept)
            if not stays
        }
        return Selection(kept, reasons, scores, _line(scores, kept), WHAT)


def _line(scores: Sequence[float], kept: Sequence[bool]) -> tuple[float, ...]:
    """Half-way between the nearest that stays and the farthest that goes; the first row that stays has no distance."""
    stays = [score for score, there in zip(scores, kept, strict=True) if there and not math.isnan(score)]
    goes = [score for score, there in zip(scores, kept, strict=True) if not there]
    return ((min(stays) + max(goes)) / 2,) if stays and goes else ()
