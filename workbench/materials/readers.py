"""Files into records: every row of a file as a mapping of column to value, or a `Reject`; JSONL and text are read here.

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

from workbench.materials import records as rec
from workbench.materials.documents import read_document
from workbench.materials.records import HUGE, Record
from workbench.materials.rows import Reject
from workbench.materials.tables import read_arrow, read_columns, read_saved, read_table, saved_files


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
