"""Diverse: the best rows that are not too like a better one, the last step of DEITA. The scan is in `materials/spread.py`.

Tags as in the project's notes: [P] paper, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence
from typing import Literal

import torch

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Reads
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.places import places
from workbench.materials.pooling import Pooling
from workbench.materials.ranking import budget
from workbench.materials.rows import Example
from workbench.materials.spread import Scanned, apart
from workbench.methods.contracts import Selection, Selector

WHAT = {"length": "length of the answer, in characters", "surprise": "surprise per learnt token, in nats"}


class Diverse(Reads, Selector, title="Best and diverse (DEITA's filter)", paper="arXiv:2312.15685"):
    """Go through the rows from the best score down and keep each that is not too like one already kept, until the share is full.

    $$\\text{keep } i \\text{ if } \\max_{j \\text{ kept}} \\cos(z_i, z_j) \\le \\tau$$

    z is what a model makes of a row. The paper scores a row with two trained models of 7 B, for complexity and for quality, and multiplies
    the two [P]; they are not here. The score is the length of the answer, the surprise of a learnt token, or a number that a column
    holds, where you may put theirs [O]. A row without a score never stays.

    It is only as good as its score. Length alone does well and teaches long answers. Surprise alone likes what is broken:
    cut the top off with perplexity first. Where few rows are left because all are alike, fewer than the share stay; with some models all
    vectors lie close together, and 0.9 is then too low.

    One reading of each row, with surprise two, and N·k·D products at most for k rows that stay.
    """

    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay at most")
    score: Literal["length", "surprise", "column"] = knob(
        "length", help="what the best row is: the longest answer, the most surprising, by a column"
    )
    column: str = knob("", help="the column that holds the score, where a column does")
    alike: float = knob(0.9, ge=0, le=1, step=0.01, help="highest cosine to a row already kept", label="most alike")
    text: Literal["row", "question", "answer"] = knob("row", help="what is compared: the whole row, its question, or its answer", more=True)
    pooling: Pooling = knob(
        "mean", help="how tokens become one vector: mean, later ones more, the last, or mean with summaries before them (htp)", more=True
    )

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        if not len(examples):
            return Selection([])
        if self.score == "surprise":
            surprise = yield from around.surprise(examples, self.model)
            scores = [total / learnt if learnt and math.isfinite(total) else math.nan for total, learnt in surprise.tolist()]
        else:
            scores = yield from self._scores(examples)
        vectors = yield from around.vectors(examples, self.model, self.pooling, self.text)
        scored = (row for row, score in enumerate(scores) if not math.isnan(score))
        order = torch.tensor(sorted(scored, key=lambda row: (-scores[row], row)), dtype=torch.int64)
        found = yield from apart(vectors, [order], self.alike, budget(self.share, len(scores)))
        where = yield from places(examples, found.like[found.likest > self.alike].tolist())
        return self._selection(scores, found, where)

    def _scores(self, examples: Sequence[Example]) -> Generator[Progress, None, list[float]]:
        scores, columns = list[float](), set[str]()
        for row, example in enumerate(examples):
            if row % 1000 == 0:
                yield Progress(row, len(examples), "rows looked at")
            columns |= example.meta.keys()
            scores.append(float(len(example.answer())) if self.score == "length" else _number(example.meta.get(self.column)))
        if all(map(math.isnan, scores)):
            raise WorkbenchError(
                f"{self.title()} goes by a column, and no row has a number in one called {self.column!r}. "
                f"Write the name of one in the step. There are: {', '.join(sorted(columns)) or 'none'}."
            )
        return scores

    def _selection(self, scores: list[float], found: Scanned, where: dict[int, str]) -> Selection:
        what = WHAT.get(self.score, self.column)
        kept, likest, like, reasons = found.kept.tolist(), found.likest.tolist(), found.like.tolist(), dict[int, str]()
        for row in (row for row, stays in enumerate(kept) if not stays):
            if math.isnan(scores[row]):
                reasons[row] = f"{what}: there is none"
            elif likest[row] > self.alike:
                reasons[row] = (
                    f"too like {where[like[row]]}, which is kept and scores no less; the cosine of their vectors is {number(likest[row])}"
                )
            else:
                reasons[row] = f"{what}: {number(scores[row])}; the share was full before it"
        unseen = [
            score for score, other, stays in zip(scores, like, kept, strict=True) if other < 0 and not stays and not math.isnan(score)
        ]
        least = min((score for score, stays in zip(scores, kept, strict=True) if stays), default=math.nan)
        return Selection(kept, reasons, scores, ((least + max(unseen)) / 2,) if unseen else (), what)


def _number(value: object) -> float:
    """The number that a column holds, also where it is written as a text; NaN where it holds none."""
    try:
        found = float(str(value))
    except ValueError:
        return math.nan
    return found if math.isfinite(found) else math.nan
