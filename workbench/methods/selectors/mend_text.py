"""Mended text: letters of a wrong encoding, and HTML. No paper; what is put right and what is left alone is in `materials/mending.py`.

Tags as in the project's notes: [O] our own choice.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any, Literal

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.materials.around import Around
from workbench.materials.mending import mended, with_letters, without_html
from workbench.materials.rows import Example
from workbench.methods.contracts import Selection, Selector

MEND = {"both": mended, "letters": with_letters, "html": without_html}


class MendText(Selector, title="Mended text"):
    """Put letters right that were read in a wrong encoding (cafÃ©, Itâ€™s), and take HTML out where plain text should stand.

    Looked at is what the turns say, the worse answers of pairs, and plain texts. Letters are put right where they are UTF-8 that somebody
    read as Windows-1252. Of HTML the words stay, each block in a line of its own, and what only programs read goes. Texts with a fence of
    code, a whole page, or the word HTML are taken for code and stay as they are; so does <T> in a program [O]. It drops no row, and what
    is left empty is left so: look at what is changed. The score of a row is how many of its texts were changed.
    """

    mends, finds = ("broken text",), ("holds HTML or letters of a wrong encoding", "hold HTML or letters of a wrong encoding")

    what: Literal["both", "letters", "html"] = knob("both", help="what is mended: letters of a wrong encoding, HTML, or both")

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        scores, changed = list[float](), dict[int, Example]()
        for index, example in enumerate(examples):
            if index % 500 == 0:
                yield Progress(index, len(examples), "rows read")
            row, texts = self._mended(example)
            scores.append(texts)
            if texts:
                changed[index] = row
        return Selection([True] * len(scores), {}, scores, (), "texts that were mended", changed)

    def _mended(self, example: Example) -> tuple[Example, int]:
        """The row, and how many of its texts are others now."""
        messages, worse = (tuple(map(self._turn, turns)) for turns in (example.messages, example.worse))
        text, learn = self._text(example)
        before, after = (*example.messages, *example.worse), (*messages, *worse)
        texts = sum(old is not new for old, new in zip(before, after, strict=True)) + (text != example.text)
        return (replace(example, messages=messages, worse=worse, text=text, learn=learn) if texts else example), texts

    def _turn(self, turn: dict[str, Any]) -> dict[str, Any]:
        said: Mapping[str, Any] = {
            key: MEND[self.what](turn[key]) for key in ("content", "reasoning_content") if isinstance(turn.get(key), str)
        }
        return turn if all(turn[key] == new for key, new in said.items()) else {**turn, **said}

    def _text(self, example: Example) -> tuple[str, tuple[tuple[int, int], ...]]:
        """A plain text, and what of it is learnt then; a text in segments is mended segment by segment."""
        if not example.learn:
            return MEND[self.what](example.text), ()
        edges = [0, *chain.from_iterable(example.learn), len(example.text)]
        text, learn = "", list[tuple[int, int]]()
        for number, (start, end) in enumerate(pairwise(edges)):
            piece = MEND[self.what](example.text[start:end])
            if number % 2:
                learn.append((len(text), len(text) + len(piece)))
            text += piece
        return text, tuple(learn)
