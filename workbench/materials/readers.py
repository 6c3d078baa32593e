"""Files into records: every row of a file as a mapping of column to value, or a `Reject`; JSONL, JSON and text are read here.

What it is: streaming readers in which one bad row never stops the others; a file that is damaged as a whole raises
`WorkbenchError`. What it is not: it does not know what a question or an answer is (`formats.py`). No type is guessed:
what is text in the file stays text. Standard library and pyarrow only, because every reader that guesses types loses
something (dates made of text, digits of long numbers, structs of tool calls filled up with nulls).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.materials import records as rec
from workbench.materials.records import HUGE, Record
from workbench.materials.rows import Reject
from workbench.materials.tables import read_arrow, read_columns, read_saved, read_table, saved_files

LARGEST_JSON = 1_000_000_000  # characters of one .json file, which is read whole; JSONL has no such limit
BETWEEN = re.compile(r"[\s,\ufeff]*")
WRAPPER = re.compile(r'\{[^\[\]{}]*"(?!messages"|conversations?"|dialog(?:ue)?"|chat")[^"]*"\s*:\s*(?=\[\s*\{)')
NEXT_OBJECT = re.compile(r"\}\s*,?\s*(?=\{)")


def records(path: Path) -> Iterator[Record | Reject]:
    """Every row of the file in order; JSON Lines and JSON are told apart by what is in the file, not by its name.

    Raises:
        WorkbenchError: no such file, a folder, an unknown extension, a file that is damaged as a whole.
    """
    kind = rec.kind_of(path)
    readers = {
        rec.LINES: _json, rec.DOCUMENT: _json, rec.TABLE: read_table, rec.COLUMNS: read_columns, rec.ARROW: read_arrow,
        rec.SAVED: read_saved, rec.PROSE: read_prose,
    }  # fmt: skip
    return rec.guarded(path, readers[kind](path))


def files_of(path: Path) -> list[Path]:
    """The files that hold a data set: one, or those of a folder that `datasets` saved."""
    return saved_files(path) if rec.kind_of(path) == rec.SAVED else [path]


def _json(path: Path) -> Iterator[Record | Reject]:
    """A list that begins with `[{` is a document whatever its name, unless it ends in its line and objects follow, each in a line."""
    head = rec.text_head(path).lstrip("\ufeff \t\r\n")
    lines = [line for line in head.splitlines() if line.strip()][:3]
    by_lines = len(lines) > 1 and any(isinstance(_parsed(line), dict) for line in lines)
    if re.match(r"\[\s*(\{|\]|$)", head) and not (by_lines and isinstance(_parsed(lines[0]), list)):
        yield from read_document(path)
        return
    yield from read_lines(path) if by_lines or rec.kind_of(path) == rec.LINES else read_document(path)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_lines(path: Path) -> Iterator[Record | Reject]:
    """JSONL: one JSON object (or one string, taken as a plain text) a line. Blank lines are passed over."""
    with rec.open_text(path) as stream:
        for line, text, whole in rec.numbered_lines(stream):
            if not whole:
                yield rec.huge(path.name, line, text)
            elif text.strip():
                yield rec.parse(path.name, line, text.rstrip("\r\n"))


def read_prose(path: Path) -> Iterator[Record | Reject]:
    """Plain text: a row is a block between blank lines; a file that begins without any blank line is read line by line."""
    by_line = re.search(r"\n[ \t\r]*\n", rec.text_head(path)) is None
    with rec.open_text(path) as stream:
        block: list[str] = []
        first, size = 1, 0
        for line, text, whole in rec.numbered_lines(stream):
            if text.strip() and whole:
                first = line if not block else first
                block.append(text)
                size += len(text)
            if block and (by_line or not text.strip() or not whole or size >= HUGE):
                yield _passage(path.name, first, "".join(block))
                block, size = [], 0
            if not whole:
                yield rec.huge(path.name, line, text)
        if block:
            yield _passage(path.name, first, "".join(block))


def _passage(source: str, line: int, text: str) -> Record | Reject:
    if len(text) >= HUGE:
        return rec.huge(source, line, text)
    mended = rec.mend(text.strip("\r\n")) if rec.MENDABLE.search(text) else text.strip("\r\n")
    return rec.bad_bytes(source, line, text) or Record(line, {"text": mended}, text[: rec.EXCERPT])


def read_document(path: Path) -> Iterator[Record | Reject]:
    """JSON: a list of objects, objects one after another, or a list under one key of an object.

    After a broken element reading goes on at the next object that has a column in common with those before.
    """
    with rec.open_text(path) as stream:
        text = stream.read(LARGEST_JSON + 1)
    if len(text) > LARGEST_JSON:
        raise WorkbenchError(f"{path.name} is larger than 1 GB, and JSON is read whole. Save it as JSONL, one row a line.")
    start = _between(text, 0)
    whole = _parsed(text) if text.startswith("{", start) else None
    rows = None if whole is None else _unwrapped(path.name, whole)
    if rows is None:
        inside = WRAPPER.match(text, start) if whole is None else None
        yield from _elements(path.name, text, inside.end() if inside else start)
    elif wrong := rec.bad_bytes(path.name, 1, text):
        yield wrong
    else:
        for number, row in enumerate(rows, start=1):
            yield rec.as_record(path.name, number, row, json.dumps(row))


def _unwrapped(source: str, whole: dict[str, Any]) -> list[Any] | None:
    """The rows of `{"data": [{…}, …]}`, or None where the object is itself a row."""
    if any(name in whole for name in rec.CONVERSATIONS):
        return None
    lists = {name: value for name, value in whole.items() if isinstance(value, list) and value and isinstance(value[0], dict)}
    if len(lists) > 1:
        raise WorkbenchError(
            f"{source} holds several lists of rows ({', '.join(lists)}), and it is not clear which is meant. "
            "Save the one you want as its own file."
        )
    return next(iter(lists.values()), None)


def _between(text: str, at: int) -> int:
    return BETWEEN.match(text, at).end()  # type: ignore[union-attr]


def _elements(source: str, text: str, at: int) -> Iterator[Record | Reject]:
    """The elements of the list that opens at `at`, or of a sequence of objects where none does."""
    decoder = json.JSONDecoder(parse_constant=lambda name: None)
    in_list, broken, line, counted, known = text.startswith("[", at), False, 1, 0, set[str]()
    at += in_list
    while (at := _between(text, at)) < len(text) and text[at] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield _broken_element(source, line, text, at, error)
            at, broken = _resume(text, error.pos if isinstance(error, json.JSONDecodeError) else at, known), True
            continue
        yield _element(source, line, value, text[at:end])
        known = known or set(value) if isinstance(value, dict) else known
        at = end
    line += text.count("\n", counted, at)
    if text[at + 1 :].strip("]} \t\r\n"):
        yield rec.reject(source, line, "The list ends here, but more follows.", "Join the lists into one.", text[at + 1 :].strip())
    elif in_list and at >= len(text) and not broken:
        yield rec.reject(source, line, "The list is never closed: the file seems to be cut off.", "Fetch or save the file again.")


def _element(source: str, line: int, value: Any, raw: str) -> Record | Reject:
    if len(raw) >= HUGE:
        return rec.huge(source, line, raw)
    return rec.bad_bytes(source, line, raw) or rec.as_record(source, line, value, raw)


def _broken_element(source: str, line: int, text: str, at: int, error: Exception) -> Reject:
    raw = text[at : at + rec.EXCERPT]
    if isinstance(error, json.JSONDecodeError):
        return rec.broken(source, error.lineno, error, raw)
    if isinstance(error, RecursionError):
        return rec.too_deep(source, line, raw)
    return rec.reject(source, line, f"The row cannot be read as JSON: {error}.", "Mend or remove the row.", raw)


def _resume(text: str, at: int, known: set[str]) -> int:
    """Where the next whole row begins after a broken one; the end of the text if there is none."""
    decoder = json.JSONDecoder()
    for place in NEXT_OBJECT.finditer(text, at):
        try:
            value, _ = decoder.raw_decode(text, place.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and (not known or known & set(value)):
            return place.end()
    return len(text)
