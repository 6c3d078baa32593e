"""Exact duplicates: rows that say the same as an earlier one. No paper; a hash of the normalised text."""

import hashlib
import unicodedata
from collections.abc import Generator, Sequence
from typing import Literal

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.places import Places
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class ExactDuplicates(Selector, title="Exact duplicates"):
    """Drop every row that says the same as an earlier row; the first of each group stays.

    Rows are compared by a 128-bit hash h(norm(x)) of their text in Unicode NFC; `norm` folds case and runs of white
    space where the knobs say so. One pass, linear in the number of characters. Running it twice changes nothing more.

    Comparing questions alone also drops rows that answer the same question differently: look at them first, they may be
    paraphrases worth keeping, or contradictions worth mending.

    Rows that differ by a word are not found; they need a near-duplicate method.

    Source: standard practice, no paper.
    """

    mends = ("copies",)

    compare: Literal["row", "question", "answer"] = knob("row", help="what must be the same: the whole row, its question, or its answer")
    ignore_case: bool = knob(True, help="count 'Paris' and 'paris' as the same")
    ignore_spaces: bool = knob(True, help="count runs of spaces and line breaks as one space")

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        first: dict[bytes, int] = {}
        copies: dict[int, int] = {}  # each row that goes → the earlier one
        where = Places()
        for index, example in enumerate(examples):
            if index % 1000 == 0:
                yield Progress(index, len(examples), "rows compared")
            where.note(example)
            text = self._text(example)
            same = first.setdefault(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest(), index)
            if same != index and text.strip():
                copies[index] = same
        what = "says the same" if self.compare == "row" else f"has the same {self.compare}"
        reasons = {index: f"{what} as {where[same]}" for index, same in copies.items()}
        return Selection([index not in reasons for index in range(len(examples))], reasons)

    def _text(self, example: Example) -> str:
        text = example.part(self.compare)
        text = unicodedata.normalize("NFC", text)
        text = text.casefold() if self.ignore_case else text
        return " ".join(text.split()) if self.ignore_spaces else text
