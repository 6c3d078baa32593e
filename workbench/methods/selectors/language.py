"""Language: rows in the languages that are wanted. No paper; how a language is told stands in `materials/languages.py`.

Tags as in the project's notes: [V] measured by us, [O] our own choice.
"""

import math
import re
from collections.abc import Generator, Sequence
from typing import Literal

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.languages import known, likeliest
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

READ = 500  # characters of a text: more say nothing new [O]
LEAST = 20  # letters below which a text has no language: "ok" is said in many [O]


class Language(Selector, title="Language"):
    """Keep the rows that are written in the languages that are wanted.

    A row stays if the likeliest of 140 languages is one of them, with a probability p of at least what is asked for. The first 500
    characters are looked at. A text of fewer than 20 letters has no language that could be told, and stays unless told otherwise [O];
    so do numbers and formulas. Code is taken for some language or other: look at what is dropped.

    0.15 ms of one core for 435 characters [V].

    Source: py3langid, after langid.py (Lui and Baldwin, 2012): naive Bayes over groups of bytes.
    """

    languages: str = knob("en", help="the languages that stay, as codes: en, de, fr; zxx is none, as in code and numbers")
    text: Literal["row", "question", "answer"] = knob("answer", help="which text is looked at: the whole row, its question, or its answer")
    sure: float = knob(0.5, ge=0, le=1, step=0.05, help="least probability of the language")
    short: Literal["keep", "drop"] = knob("keep", help="what becomes of texts too short to tell", label="too short", more=True)

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
            text = example.part(self.text)[:READ]
            if sum(map(str.isalpha, text)) < LEAST:
                scores.append(math.nan)
                if self.short == "drop":
                    reasons[index] = f"the {self.text} is too short to tell its language"
                continue
            code, probability = likeliest(text)
            scores.append(probability if code in wanted else 0.0)
            if code not in wanted or probability < self.sure:
                reasons[index] = f"the {self.text} is {code} with a probability of {probability:.2f}"
        kept = [index not in reasons for index in range(len(examples))]
        return Selection(kept, reasons, scores, (self.sure,) if 0 < self.sure < 1 else (), "probability of a wanted language")
