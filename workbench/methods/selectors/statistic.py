"""A statistic in a range: a number that describes a text, and where it may lie. No paper; the numbers are `materials/statistics.py`."""

from collections.abc import Generator, Sequence
from typing import Literal

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.rows import Example
from workbench.materials.statistics import STATISTICS, in_words
from workbench.methods.contracts import Selection, Selector

Of = Literal[tuple(STATISTICS)]  # type: ignore[valid-type]


class Statistic(Selector, title="Statistic in a range"):
    """Keep the rows of which a number that describes their text lies in a range.

    A row x stays if a ≤ s(x) ≤ b. The statistic s is a length, a share of the letters, words or lines, or 0 or 1: `finished` is 1
    where a text ends as a sentence does, `open_fence` where a block of code is not closed, and `repeated_words` the share of the
    stretches of ten words that occur more than once.

    Rules of thumb come from web pages and do harm here: a floor of 50 words deletes short answers, a rule against brackets deletes code.
    Look at the picture and at what is dropped. Safe are a share of `repeated_letters` of 0.5 at most in long answers, and `open_fence` 0.

    Source: standard practice (datatrove, Data-Juicer), no paper.
    """

    of_range = True

    of: Of = knob("characters", help="which number", label="statistic")
    text: Literal["row", "question", "answer"] = knob("answer", help="of which text: the whole row, its question, or its answer")
    least: float = knob(0.0, ge=0, help="smallest number that stays")
    most: float = knob(1e9, ge=0, help="largest number that stays", log=True)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        measure, what = STATISTICS[self.of], in_words(self.of, self.text)
        scores, reasons = list[float](), dict[int, str]()
        for index, example in enumerate(examples):
            if index % 1000 == 0:
                yield Progress(index, len(examples), "rows measured")
            text = example.part(self.text)
            scores.append(measure(text))
            if not self.least <= scores[-1] <= self.most:
                far = f"fewer than {number(self.least)}" if scores[-1] < self.least else f"more than {number(self.most)}"
                reasons[index] = f"{what}: {number(scores[-1])}, {far}"
        cuts = tuple(line for line in (self.least, self.most) if min(scores, default=line) < line < max(scores, default=line))
        return Selection([index not in reasons for index in range(len(examples))], reasons, scores, cuts, what)
