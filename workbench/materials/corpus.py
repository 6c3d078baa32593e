"""Rows as the workbench keeps them: an `Example` is one canonical row, a conversation or a plain text, with its origin.

Knows nothing of file formats (`formats.py`) or tokens (`templates.py`).
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
