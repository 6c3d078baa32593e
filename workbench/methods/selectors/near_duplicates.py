"""Near duplicates: rows that say the same but for a few words. No paper of its own; the signatures are in `materials/near.py`.

Tags as in the project's notes: [R] read in other tools' code, [V] measured by us, [O] our own choice.
"""

import math
from array import array
from collections.abc import Generator, Sequence
from typing import Literal, Self

import torch

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.near import joined, pairs, signatures
from workbench.materials.places import Places
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

WHAT = "likeness to the nearest row found"
SPLITS = {"words": str.split, "characters": list}


class NearDuplicates(Selector, title="Near duplicates"):
    """Of rows that share most of their word groups keep one.

    $$J(x, y) = \\frac{|G_x \\cap G_y|}{|G_x \\cup G_y|} \\ge t$$

    G are the groups of three words that follow one another, in any case. J is estimated by MinHash with 128 numbers, good to
    ±0.04, and rows are compared where one of 16 bands of 8 numbers is equal: of pairs that are 0.7 alike 61 % are found, at 0.8 95 %,
    at 0.9 all. A changed word spoils as many groups as a group has words: with 3 % of the words changed two rows are 0.83 alike at groups
    of three, and 0.73 at groups of five, which other tools take [R] and half of which this threshold would miss [O]. Rows that are
    joined over others are one group, of which one row is kept. Words are what stands between spaces; for code, or languages without
    spaces, take characters.

    Every row of a group says in its reason which row is kept and how alike the nearest row is that it was found with. The threshold 0.7
    is that of Data-Juicer and text-dedup [R]. Duplicates to the letter are found too, faster by the step that is for them.

    A near copy of a validation row that is trained on makes the validation loss too good. Where copies are wanted, keep all of a group: the
    split then puts its rows on one side, as it does with rows that ask the same [O].
    """

    mends = ("near copies", "copies on both sides")
    finds = ("says nearly the same as another row", "say nearly the same as another row")

    threshold: float = knob(0.7, gt=0, le=1, step=0.01, help="how alike two rows are that count as one: the share of their word groups")
    compare: Literal["row", "question", "answer"] = knob("row", help="what must be alike: the whole row, its question, or its answer")
    keeps: Literal["first", "longest", "all"] = knob(
        "first", help="which row of a group is kept; all drops none, and leaves the group on one side of the validation split"
    )
    unit: Literal["words", "characters"] = knob("words", help="what groups are made of", more=True)
    group: int = knob(3, ge=1, le=50, help="how many make a group", more=True)

    @classmethod
    def looking(cls) -> Self:
        return cls(keeps="all")

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        lengths, where = array("q"), Places()
        signs, there = yield from signatures(self._texts(examples, lengths, where), len(examples), SPLITS[self.unit], self.group)
        yield Progress(len(examples), len(examples), "rows compared")
        two, alike = pairs(signs, there)
        first = joined(len(examples), two[alike >= self.threshold]).tolist()
        scores = nearest(len(examples), two, alike)
        if self.keeps == "all":
            return Selection([True] * len(first), {}, scores, self._line(scores), WHAT, groups=first)
        return self._selection(self._stays(first, lengths), where, scores)

    def _texts(self, examples: Sequence[Example], lengths: array, where: Places) -> Generator[str, None, None]:
        for example in examples:
            text = example.part(self.compare)
            lengths.append(len(text))
            where.note(example)
            yield text.casefold()

    def _stays(self, first: list[int], lengths: array) -> list[int]:
        """Of each row which one of its group is kept."""
        stays = dict[int, int]()  # group → the row that is kept
        for row, group in enumerate(first):
            if group not in stays or (self.keeps == "longest" and lengths[row] > lengths[stays[group]]):
                stays[group] = row
        return [stays[group] for group in first]

    def _selection(self, stays: list[int], where: Places, scores: list[float]) -> Selection:
        reasons = dict[int, str]()
        for row, other in enumerate(stays):
            if other != row:
                share = f"{scores[row]:.0%} of its word groups are those of the nearest row"
                reasons[row] = f"says nearly the same as {where[other]}, which is kept; {share}"
        return Selection([row not in reasons for row in range(len(stays))], reasons, scores, self._line(scores), WHAT)

    def _line(self, scores: list[float]) -> tuple[float, ...]:
        return (self.threshold,) if any(math.isfinite(score) for score in scores) else ()


def nearest(count: int, two: torch.Tensor, alike: torch.Tensor) -> list[float]:
    """Of each row how alike the most alike of those is that it was compared with; NaN where there was none."""
    found = alike.new_full((count,), -1.0)  # not torch's default, which is another one while a model is loaded in another thread
    for side in (0, 1):
        found.scatter_reduce_(0, two[:, side], alike, "amax")
    return [math.nan if likeness < 0 else likeness for likeness in found.tolist()]
