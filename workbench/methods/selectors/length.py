"""Length: rows and answers that are too short or too long, in characters. No paper."""

from collections.abc import Generator, Sequence

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class Length(Selector, title="Length"):
    """Keep the rows whose length lies in a range, and whose answer does too.

    A row x stays if a ≤ |x| ≤ b and c ≤ |answer(x)| ≤ d, with |·| the number of characters; of a plain text the answer
    is the whole text. Characters, not tokens, so that the step means the same for every model; what is too long in
    tokens is cut by `max_length` and shown on this page.

    A very short answer is often a label, and just what should be learnt: look at what is dropped before using the step.

    Source: standard practice, no paper.
    """

    fewest: int = knob(1, ge=0, le=10_000_000, help="fewest characters of a whole row", unit="characters", log=True)
    most: int = knob(20_000, ge=1, le=10_000_000, help="most characters of a whole row", unit="characters", log=True)
    fewest_answer: int = knob(1, ge=0, le=10_000_000, help="fewest characters of the answer", unit="characters", log=True)
    most_answer: int = knob(20_000, ge=1, le=10_000_000, help="most characters of the answer", unit="characters", log=True)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        reasons: dict[int, str] = {}
        for index, example in enumerate(examples):
            if index % 1000 == 0:
                yield Progress(index, len(examples), "rows measured")
            reason = _outside("the row", len(example.as_text()), self.fewest, self.most)
            reason = reason or _outside("the answer", len(example.answer()), self.fewest_answer, self.most_answer)
            if reason:
                reasons[index] = reason
        return Selection([index not in reasons for index in range(len(examples))], reasons)


def _outside(what: str, length: int, fewest: int, most: int) -> str:
    if length < fewest:
        return f"{what} has {length} characters, fewer than {fewest}"
    return f"{what} has {length} characters, more than {most}" if length > most else ""
