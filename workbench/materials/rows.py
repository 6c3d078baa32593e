"""Rows as the workbench keeps them: an `Example` is one canonical row, a `Reject` is a row that could not be one.

Knows nothing of files (`readers.py`), column names (`formats.py`) or tokens (`templates.py`).
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """One canonical row. Either `messages` (list of {role, content, …}) or `text` is filled, never both."""

    messages: tuple[dict[str, Any], ...] = ()
    text: str = ""
    source: str = ""  # file name as brought
    line: int = 0  # line or row number in that file, from 1
    format: str = ""
    meta: dict[str, Any] = field(default_factory=dict)  # every other column, untouched

    def as_text(self) -> str:
        """Everything the row says, for statistics and duplicates; roles are kept so that a question is not an answer."""
        return self.text or "\n".join(f"{message['role']}: {message.get('content') or ''}" for message in self.messages)

    def question(self) -> str:
        """What the row asks: every turn that is not the assistant's; empty for a plain text."""
        return "\n".join(str(message.get("content") or "") for message in self.messages if message["role"] != "assistant")

    def answer(self) -> str:
        """What the row teaches to say: the assistant's turns, or the whole of a plain text."""
        return self.text or "\n".join(str(message.get("content") or "") for message in self.messages if message["role"] == "assistant")


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
    """`kept` says of each of the N examples whether it stays; `reasons` says of each dropped one why."""

    kept: list[bool]
    reasons: dict[int, str] = field(default_factory=dict)
