"""By hand: rows that a person dropped or rewrote. No paper; a row is known by what it says, so the list replays on another file."""

import json
from collections.abc import Generator, Sequence
from dataclasses import replace

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.corpus import mark
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector


class ByHand(Selector, title="By hand"):
    """Drop the rows that a person dropped, and say the others as a person rewrote them.

    A row x is known by its mark m(x), twelve digits of the hash of what it says: it is found again in another order, in another file, and
    among more rows, and not once it says something else. Copies of a row share its mark and its fate. The page writes both lists; what is
    rewritten is the last answer, or the whole of a plain text. The original is not touched: without this step all is as it was.

    Source: ours, no paper.
    """

    by_hand = True

    drop: str = knob("", help="marks of the rows that go; the page writes them", more=True)
    edits: str = knob("", help="rewritten answers by mark, as JSON; the page writes them", more=True)

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        gone, edits = set(self.drop.replace(",", " ").split()), self.rewritten()
        reasons, changed = dict[int, str](), dict[int, Example]()
        for index, example in enumerate(examples):
            if index % 1000 == 0:
                yield Progress(index, len(examples), "rows looked for")
            own = mark(example)
            if own in gone:
                reasons[index] = f"was dropped by hand (mark {own})"
            elif own in edits:
                changed[index] = saying(example, edits[own])
        return Selection([index not in reasons for index in range(len(examples))], reasons, changed=changed)

    def rewritten(self) -> dict[str, str]:
        """The new answers by mark; a `WorkbenchError` where they are no JSON of texts."""
        try:
            found = json.loads(self.edits or "{}")
        except ValueError as error:
            raise WorkbenchError(f"edits is no JSON ({error}). Write a mapping from marks to texts, or leave it empty.") from error
        if not (isinstance(found, dict) and all(isinstance(text, str) for text in found.values())):
            raise WorkbenchError("edits is no mapping from marks to texts. Write it as {mark: text}, or leave it empty.")
        return found


def saying(example: Example, answer: str) -> Example:
    """The row with another last answer; a plain text is replaced whole, and is then learnt whole."""
    if example.text:
        return replace(example, text=answer, learn=())
    places = [place for place, turn in enumerate(example.messages) if turn["role"] == "assistant"]
    if not places:
        return example
    last = places[-1]
    turns = [{**turn, "content": answer} if place == last else turn for place, turn in enumerate(example.messages)]
    return replace(example, messages=tuple(turns))
