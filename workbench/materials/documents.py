"""JSON documents, read in pieces: a list of objects, objects one after another, or a list under one key of an object.

What it is: a window that moves over the text and is as long as the row at hand and a piece more, so that neither memory nor the time to
the first row grows with the file. What it is not: JSON Lines, or the choice between the two (`readers.py`).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from workbench.core.errors import WorkbenchError
from workbench.materials import records as rec
from workbench.materials.records import EXCERPT, HUGE, Record
from workbench.materials.rows import Reject

PIECE = 1 << 20  # characters that are read at once
BETWEEN, CLOSING = re.compile(r"[\s,\ufeff]*"), re.compile(r"[\]}\s]*")
SIGN = re.compile(r'\\.|["\[\]{}]', re.DOTALL)
WRAPPER = re.compile(r'\{[^\[\]{}]*"(?!messages"|conversations?"|dialog(?:ue)?"|chat")[^"]*"\s*:\s*(?=\[\s*\{)')
NEXT_OBJECT = re.compile(r"\}\s*,?\s*(?=\{)")


class TooLongError(Exception):
    """A value is not over after `HUGE` characters."""


class Window:
    """What was read of a stream and is not yet done with: `text` from `at` on. `whole` says that nothing more comes."""

    def __init__(self, stream: TextIO):
        self.text, self.at, self.whole = "", 0, False
        self._stream = stream
        self._first, self._column = 1, 0  # where the text begins in the file
        self._lines, self._counted = 0, 0  # line ends in the text before a place

    def line(self) -> int:
        """The line of the file in which `at` is."""
        self._lines += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._first + self._lines

    def more(self) -> bool:
        """Read on, and let go what lies before `at`; as much again as is held, so that what is read anew costs no more than twice."""
        self._first, self._lines, self._counted = self.line(), 0, 0
        newline = self.text.rfind("\n", 0, self.at)
        self._column = self.at - newline - 1 if newline >= 0 else self._column + self.at
        piece = self._stream.read(max(PIECE, len(self.text) - self.at))
        self.text, self.at, self.whole = self.text[self.at :] + piece, 0, not piece
        return bool(piece)

    def sign(self, passes: re.Pattern[str] = BETWEEN) -> str:
        """The next character behind what is passed over, blanks and commas; none at the end."""
        while True:
            self.at = passes.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def value(self) -> tuple[Any, int]:
        """The JSON value at `at`, and where it ends.

        Raises:
            TooLongError: it does not end soon enough to be a row. ValueError, RecursionError: as the decoder has it, placed in the file.
        """
        while True:
            try:
                value, end = rec.JSON.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - EXCERPT  # no word is as long
                if self.whole or not cut:
                    raise self._placed(error) from None
            else:
                if end + 2 < len(self.text) or self.whole:  # behind 1 may come 5, or e-5
                    return value, end
            if len(self.text) - self.at >= HUGE:
                raise TooLongError
            self.more()

    def name(self) -> str:
        """The name at `at`; it is passed, and so is its colon."""
        name, self.at = self.value()
        if not isinstance(name, str) or self.sign() != ":":
            raise self._placed(json.JSONDecodeError("Expecting a name and a colon", self.text, self.at))
        self.at += 1
        return name

    def _placed(self, error: json.JSONDecodeError) -> json.JSONDecodeError:
        """With line and column as the file has them; `pos` is that of the text."""
        error.colno += self._column if error.lineno == 1 else 0
        error.lineno += self._first - 1
        return error

    def skip(self, depth: int = 0) -> None:
        """Pass a list, an object or a text, however long it is, or what is left of one that is open so deep; nothing is held of it."""
        quoted = False
        while True:
            end = self.at
            for sign in SIGN.finditer(self.text, self.at):
                mark, end = sign.group(), sign.end()
                quoted ^= mark == '"'
                depth += 0 if quoted else (mark in "[{") - (mark in "]}")
                if depth <= 0 and not quoted and len(mark) == 1:
                    self.at = end
                    return
            self.at = len(self.text) - (end < len(self.text) and self.text.endswith("\\"))  # which is one sign with what comes
            if not self.more():
                self.at = len(self.text)
                return

    def resume(self, at: int, known: set[str]) -> None:
        """Go from a broken place to where the next whole row begins, which has a column in common with those known; or to the end."""
        self.at = at
        while self._next_object():
            try:
                value, _ = self.value()
            except (ValueError, RecursionError, TooLongError):
                continue
            if isinstance(value, dict) and (not known or known & set(value)):
                return
        self.at = len(self.text)

    def _next_object(self) -> bool:
        while (place := NEXT_OBJECT.search(self.text, self.at)) is None:
            last = self.text.rfind("}", self.at)
            self.at = last if last >= 0 and not self.text[last + 1 :].strip(", \t\r\n") else len(self.text)
            if not self.more():
                return False
        self.at = place.end()
        return True


def read_document(path: Path) -> Iterator[Record | Reject]:
    """Every row of the document.

    After a broken element reading goes on at the next object that has a column in common with those before.
    """
    with rec.open_text(path) as stream:
        window = Window(stream)
        opens = window.sign()
        if opens == "{":
            yield from _object(path.name, window)
            return
        window.at += opens == "["
        yield from _rows(path.name, window, in_list=opens == "[")
        yield from _behind(path.name, window)


def _object(source: str, window: Window) -> Iterator[Record | Reject]:
    """A document that begins with an object: rows one after another, a row, or what holds the rows under one of its keys."""
    line = window.line()
    try:
        value, end = window.value()
    except TooLongError:
        yield from _wrapped(source, window)
        return
    except (ValueError, RecursionError):
        inside = WRAPPER.match(window.text, window.at)
        window.at = inside.end() + 1 if inside else window.at
        yield from _rows(source, window, in_list=inside is not None)
        yield from _behind(source, window)
        return
    raw, window.at = window.text[window.at : end], end
    rows = _unwrapped(source, value) if window.sign() != "{" else None
    if rows is None:
        yield _element(source, line, value, raw)
        yield from _rows(source, window, in_list=False, known=set(value))
    elif wrong := rec.bad_bytes(source, line, raw):
        yield wrong
    else:
        for number, row in enumerate(rows, start=1):
            yield rec.as_record(source, number, row, json.dumps(row))
    yield from _behind(source, window)


def _unwrapped(source: str, whole: dict[str, Any]) -> list[Any] | None:
    """The rows of `{"data": [{…}, …]}`, or None where the object is itself a row."""
    if any(name in whole for name in rec.CONVERSATIONS):
        return None
    lists = {name: value for name, value in whole.items() if isinstance(value, list) and value and isinstance(value[0], dict)}
    if len(lists) > 1:
        raise _several(source, list(lists))
    return next(iter(lists.values()), None)


def _wrapped(source: str, window: Window) -> Iterator[Record | Reject]:
    """The same of an object that is longer than any row, of which nothing is held but the row at hand."""
    line, head, found = window.line(), window.text[window.at : window.at + EXCERPT], ""
    window.at += 1
    while window.sign() not in ("}", ""):
        try:
            name = window.name()
            opens = window.sign()
            if opens != "[":
                _pass(window)
                continue
        except (ValueError, RecursionError) as error:
            yield _broken(source, window.line(), window.text[window.at :], error)
            return
        window.at += 1
        if window.sign() != "{":
            window.skip(depth=1)
            continue
        if found:
            raise _several(source, [found, name])
        if name in rec.CONVERSATIONS:
            break
        found = name
        yield from _rows(source, window, in_list=True)
        window.at += 1
    if not found:
        yield rec.huge(source, line, head)
    else:
        yield from _behind(source, window)


def _pass(window: Window) -> None:
    try:
        _, window.at = window.value()
    except TooLongError:
        window.skip()


def _several(source: str, names: list[str]) -> WorkbenchError:
    return WorkbenchError(
        f"{source} holds several lists of rows ({', '.join(names)}), and it is not clear which is meant. "
        "Save the one you want as its own file."
    )


def _rows(source: str, window: Window, in_list: bool, known: set[str] | None = None) -> Iterator[Record | Reject]:
    """The rows up to the end of the list, or of the text where they are in none; `known` are columns of rows before."""
    broken, known = False, known or set()
    while window.sign() not in ("]", ""):
        line = window.line()
        try:
            value, end = window.value()
        except TooLongError:
            yield rec.huge(source, line, window.text[window.at : window.at + EXCERPT])
            window.skip()
            continue
        except (ValueError, RecursionError) as error:
            yield _broken(source, line, window.text[window.at : window.at + EXCERPT], error)
            window.resume(error.pos if isinstance(error, json.JSONDecodeError) else window.at, known)
            broken = True
            continue
        yield _element(source, line, value, window.text[window.at : end])
        known = known or set(value) if isinstance(value, dict) else known
        window.at = end
    if in_list and not window.sign() and not broken:
        yield rec.reject(source, window.line(), "The list is never closed: the file seems to be cut off.", "Fetch or save the file again.")


def _behind(source: str, window: Window) -> Iterator[Reject]:
    """What follows the end of the rows, which nobody reads."""
    if window.sign(CLOSING):
        raw = window.text[window.at : window.at + EXCERPT].strip()
        yield rec.reject(source, window.line(), "The list ends here, but more follows.", "Join the lists into one.", raw)


def _element(source: str, line: int, value: Any, raw: str) -> Record | Reject:
    if len(raw) >= HUGE:
        return rec.huge(source, line, raw)
    return rec.bad_bytes(source, line, raw) or rec.as_record(source, line, value, raw)


def _broken(source: str, line: int, text: str, error: Exception) -> Reject:
    raw = text[:EXCERPT]
    if isinstance(error, json.JSONDecodeError):
        return rec.broken(source, error.lineno, error, raw)
    if isinstance(error, RecursionError):
        return rec.too_deep(source, line, raw)
    return rec.reject(source, line, f"The row cannot be read as JSON: {error}.", "Mend or remove the row.", raw)
