"""Language: rows in the languages that are wanted. No paper; how a language is told stands in `materials/languages.py`.

Tags as in the project's notes: [V] measured by us, [O] our own choice.
"""

import math
import re
from collections.abc import Generator, Sequence
from typing import Literal, Self

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.sifting import Part
from workbench.materials.around import Around
from workbench.materials.languages import CODES, LEAST, READ, known, likeliest, told
from workbench.materials.overlap import part_of
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class Language(Selector, title="Language"):
    """Keep the rows that are written in the languages that are wanted.

    A row stays if the likeliest of 140 languages is one of them, with a probability p of at least what is asked for. The first 500
    characters are looked at. A text of fewer than 20 letters has no language that could be told, and stays unless told otherwise [O];
    so do numbers and formulas. Code is taken for some language or other: look at what is dropped.

    Or drop only what is surely in another language, and let everything stay that may be doubted. A text is sure where its script says the
    same as the likeliest language or, in Latin letters, its small words do ("und", "les"), of which 17 languages are known here [O]. Code,
    names, short texts and texts in two languages are doubted.

    0.15 ms of one core for 435 characters [V].

    Source: py3langid, after langid.py (Lui and Baldwin, 2012): naive Bayes over groups of bytes.
    """

    mends = ("other languages",)

    languages: str = knob("en", help="the languages that stay, as codes: en, de, fr; zxx is none, as in code and numbers")
    text: Part = knob("answer", help="which text is looked at: the whole row, its question, or its answer")
    sure: float = knob(0.5, ge=0, le=1, step=0.05, help="least probability of the language")
    short: Literal["keep", "drop"] = knob("keep", help="what becomes of texts too short to tell", label="too short", more=True)
    doubted: Literal["by probability", "keep"] = knob(
        "by probability",
        help="what becomes of code, names and whatever may be doubted; with keep only what is surely in another language goes",
        label="if in doubt",
    )

    @classmethod
    def mending(cls, about: str = "", part: Part = "row") -> Self:
        return cls(languages=about, text=part, doubted="keep")

    def wanted(self) -> frozenset[str]:
        """The codes; a `WorkbenchError` names those that there are not."""
        codes = frozenset(re.findall(r"[a-z]+", self.languages.lower()))
        unknown = sorted(codes - set(known()))
        if unknown or not codes:
            raise WorkbenchError(f"languages names {', '.join(unknown) or 'none'}, which cannot be told. There are: {', '.join(known())}.")
        return codes

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        wanted, scores, reasons = self.wanted(), list[float](), dict[int, str]()
        for index, example in enumerate(examples):
            if index % 500 == 0:
                yield Progress(index, len(examples), "rows read")
            score, reason = self._surely(example, wanted) if self.doubted == "keep" else self._likely(example, wanted)
            scores.append(score)
            if reason:
                reasons[index] = reason
        kept = [index not in reasons for index in range(len(examples))]
        if self.doubted == "keep":
            return Selection(kept, reasons)
        return Selection(kept, reasons, scores, (self.sure,) if 0 < self.sure < 1 else (), "probability of a wanted language")

    def _likely(self, example: Example, wanted: frozenset[str]) -> tuple[float, str]:
        """The probability of a wanted language, and why the row goes, if it does."""
        text = example.part(self.text)[:READ]
        if sum(map(str.isalpha, text)) < LEAST:
            return math.nan, f"the {self.text} is too short to tell its language" if self.short == "drop" else ""
        code, probability = likeliest(text)
        if code in wanted and probability >= self.sure:
            return probability, ""
        return probability if code in wanted else 0.0, f"the {self.text} is {code} with a probability of {probability:.2f}"

    def _surely(self, example: Example, wanted: frozenset[str]) -> tuple[float, str]:
        name = told(part_of(example, self.text))
        return math.nan, f"the {self.text} is in {name}" if name and not CODES[name] & wanted else ""
