"""Leaked evaluation rows: rows of an evaluation set whose text stands in a set that is learnt from. No paper of its own.

The other way round than decontamination: the training set stays as it is, and the evaluation set loses the rows that measure memory. What
it is not: a search for rows that say the same in other words. Tags as in the project's notes: [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence
from typing import Literal

import torch

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.corpus import digest
from workbench.materials.grams import batches, words
from workbench.materials.overlap import LEAST, Items, asked, items, said
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class Leaked(Selector, title="Leaked evaluation rows"):
    """Of a set that is kept to measure with drop the rows whose text stands in a set that is learnt from.

    $$s(e) = \\max_x \\frac{|G_e \\cap G_x|}{|G_e|}$$

    To be put on the evaluation set: the rows that stay can be kept as a set of their own, with which a model is then measured. It is the
    remedy where the training set cannot be changed, or where a model was trained on it already. G are the groups of 13 words that follow
    one another, without case, accents and punctuation; x are the rows of the other set, searched whole. What a row is dropped for is what
    decontamination drops the other row for, with the same knobs.

    Of a row with fewer words than a group the whole is looked for, if it has five words at least; shorter ones cannot be told from chance,
    have no number and stay [O]. Groups that stand in more than ten different rows of this set, or in more than a third of three or more,
    are taken for its template [O]. Paraphrases and translations are not found.
    """

    learnt: str = knob("", help="name of the data set that is learnt from", names="data", label="training set")
    group: int = knob(13, ge=LEAST, le=50, help="how many words that follow one another are looked for", unit="words")
    compare: Literal["row", "question", "answer"] = knob(
        "question", help="what must not be found; of a row without one, all of it", label="look for"
    )
    least: float = knob(0.0, ge=0, le=1, step=0.01, help="share of a row's groups that drops it; at 0 one group does")
    common: int = knob(10, ge=1, help="in how many rows a group may stand and still be looked for; a third at most", more=True)

    def others(self) -> list[str]:
        return [self.learnt] if self.learnt else []

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        learnt = around.rows(self.learnt, self.title())
        looked_for = yield from items((asked(row, self.compare) for row in examples), len(examples), self.group, self.common)
        most, where = yield from self._held(learnt, looked_for)
        first, scores, reasons = self._firsts(examples), list[float](), dict[int, str]()
        for row, of in enumerate(first):
            share, groups = float(most[of]), int(looked_for.own[of])
            scores.append(share if groups else math.nan)
            if share > 0 and share >= self.least:
                part = "" if self.compare == "row" else f" of its {self.compare}"
                held = f"{share:.0%}" if share >= 0.01 else f"a part ({share * groups:.0f} of {groups:,} groups)"
                reasons[row] = f"{held}{part} stands in row {int(where[of]) + 1} of {self.learnt or 'the training set'}"
        kept = [row not in reasons for row in range(len(first))]
        return Selection(kept, reasons, scores, _line(scores, kept), "share of the row that a row of the training set holds")

    def _held(self, learnt: Sequence[Example], looked_for: Items) -> Generator[Progress, None, tuple[torch.Tensor, torch.Tensor]]:
        """Of each row the largest share that a row of the training set holds, and the first of those that hold it."""
        most, where = torch.zeros(len(looked_for.own), dtype=torch.float64), torch.zeros(len(looked_for.own), dtype=torch.int64)
        for batch in batches(map(said, learnt)) if len(looked_for.held) else ():
            found = looked_for.held_by(batch)
            more = found.share > most[found.item]
            most[found.item[more]], where[found.item[more]] = found.share[more], found.text[more]
            yield Progress(batch.first + batch.count, len(learnt), "rows searched")
        return most, where

    def _firsts(self, examples: Sequence[Example]) -> list[int]:
        """Of each row the first one that asks the same: it was looked for in the place of all."""
        seen = dict[int, int]()
        return [seen.setdefault(digest(" ".join(words(asked(example, self.compare)))), row) for row, example in enumerate(examples)]


def _line(scores: Sequence[float], kept: Sequence[bool]) -> tuple[float, ...]:
    """Half-way between the highest number that stays and the lowest that goes, where there are both."""
    stays = [score for score, stay in zip(scores, kept, strict=True) if stay and not math.isnan(score)]
    goes = [score for score, stay in zip(scores, kept, strict=True) if not stay]
    return ((max(stays) + min(goes)) / 2,) if stays and goes else ()
