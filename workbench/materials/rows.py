"""Rows as the workbench keeps them: an `Example` is one canonical row, a `Reject` is a row that could not be one.

Knows nothing of files (`readers.py`), column names (`formats.py`) or tokens (`templates.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, overload

QUESTIONS = "questions"  # the format of rows that ask and have no answer: nothing can be learnt from them


@dataclass(frozen=True)
class Example:
    """One canonical row. Either `messages` (list of {role, content, …}) or `text` is filled, never both."""

    messages: tuple[dict[str, Any], ...] = ()
    text: str = ""
    source: str = ""  # file name as brought
    line: int = 0  # line or row number in that file, from 1
    format: str = ""
    meta: dict[str, Any] = field(default_factory=dict)  # every other column, untouched
    worse: tuple[dict[str, Any], ...] = ()  # of a preference row the turns that are not to be said, where `messages` ends otherwise
    learn: tuple[tuple[int, int], ...] = ()  # characters of `text` that are learnt; all of them where none are named

    def as_text(self) -> str:
        """Everything the row says, for statistics and duplicates; roles are kept so that a question is not an answer."""
        return self.text or "\n".join(f"{message['role']}: {message.get('content') or ''}" for message in self.messages)

    def question(self) -> str:
        """What the row asks: every turn that is not the assistant's; of a plain text what is not learnt."""
        if self.text:
            edges = (0, *chain.from_iterable(self.learn))  # what is learnt ends where what is not begins
            return "".join(self.text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=False))
        return "\n".join(str(message.get("content") or "") for message in self.messages if message["role"] != "assistant")

    def answer(self) -> str:
        """What the row teaches to say: the assistant's turns, or what is learnt of a plain text."""
        if self.learn:
            return "".join(self.text[start:end] for start, end in self.learn)
        return self.text or "\n".join(str(message.get("content") or "") for message in self.messages if message["role"] == "assistant")

    def last_answer(self) -> str:
        """The assistant's last turn; of a plain text all of it."""
        return self.text or next((str(turn.get("content") or "") for turn in reversed(self.messages) if turn["role"] == "assistant"), "")

    def part(self, which: Literal["row", "question", "answer"]) -> str:
        """The whole row, what it asks, or what it teaches to say."""
        return {"row": self.as_text, "question": self.question, "answer": self.answer}[which]()


def told(example: Example) -> str:
    """All of a row that decides what is learnt of it."""
    return repr((example.messages, example.text, example.learn))


class Chosen(Sequence[Example]):
    """Some of the examples, by ascending indices, without a copy of them."""

    def __init__(self, examples: Sequence[Example], indices: Sequence[int]):
        self.examples, self.indices = examples, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Example]:
        wanted = iter(self.indices)
        next_one = next(wanted, None)
        for index, example in enumerate(self.examples):  # in one go: to look each one up would read its batch for it alone
            if next_one is None:
                return
            if index == next_one:
                yield example
                next_one = next(wanted, None)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Chosen": ...
    def __getitem__(self, index: int | slice) -> "Example | Chosen":
        return Chosen(self.examples, self.indices[index]) if isinstance(index, slice) else self.examples[self.indices[index]]


class Changed(Sequence[Example]):
    """The examples, some of them as they were changed; the others are not copied."""

    def __init__(self, examples: Sequence[Example], changed: Mapping[int, Example]):
        self.examples, self.changed = examples, changed

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return (self.changed.get(index, example) for index, example in enumerate(self.examples))

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> "Example | list[Example]":
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self.changed[place] if place in self.changed else self.examples[place]


@dataclass(frozen=True)
class Reject:
    """A row that was not taken, and why; `line` and `column` say where it stands, `remedy` what a person can do."""

    source: str
    line: int
    column: str
    reason: str
    remedy: str
    excerpt: str


@dataclass(frozen=True)
class Selection:
    """`kept` says of each of the N examples whether it stays; `reasons` says of each dropped one why.

    A step that goes by a number gives it too: `scores` of each example (NaN where there is none), `cuts` where a line lies between
    those that stay and those that go, and `what` the number is, in words. A step that changes rows gives those that are `changed`, as they
    are then. A step that finds rows which a split must not part gives `groups`: of each example the first one of its group.
    """

    kept: list[bool]
    reasons: dict[int, str] = field(default_factory=dict)
    scores: Sequence[float] = ()
    cuts: tuple[float, ...] = ()
    what: str = ""
    changed: Mapping[int, Example] = field(default_factory=dict)
    groups: Sequence[int] = ()
