"""Tables into records: CSV, TSV, Parquet and Arrow, row by row, as `readers.py` does for JSON and text.

What it is: no type is guessed in a CSV, all is text; Parquet and Arrow keep the types they have. What it is not: it knows no formats.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.core.errors import WorkbenchError
from workbench.materials import records as rec
from workbench.materials.records import HUGE, Record
from workbench.materials.rows import Reject

TOO_LONG = "the record is too long"
PACKED = b"workbench"  # the mark of a column of JSON, in the column's own metadata


class _Lines:
    """The lines of a table, which can be given back when a quote that is never closed has swallowed them."""

    def __init__(self, stream: TextIO):
        self.stream, self.number = stream, 0
        self.waiting: deque[str] = deque()
        self.taken: list[str] = []
        self.size = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        text = self.waiting.popleft() if self.waiting else self.stream.readline(HUGE)
        if not text:
            raise StopIteration
        self.number += 1
        self.taken.append(text)
        self.size += len(text)
        if len(text) >= HUGE and not text.endswith("\n"):
            while (rest := self.stream.readline(HUGE)) and not rest.endswith("\n"):
                pass
            self.taken[-1] += "\n"  # given back, it must not look like a line whose rest is still to come
        if self.size >= HUGE:
            raise csv.Error(TOO_LONG)
        return text

    def begin(self) -> int:
        """A new record begins; the number of its first line."""
        self.taken, self.size = [], 0
        return self.number + 1

    def give_back(self) -> None:
        """All lines of this record but the first are read again."""
        self.waiting.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
        self.taken = self.taken[:1]


def read_table(path: Path) -> Iterator[Record | Reject]:
    """CSV and TSV: all values are strings, quotes as in RFC 4180, the separator told from the first line.

    A quote that is never closed costs its own line, not the rest of the file.
    """
    csv.field_size_limit(HUGE)
    separator = _separator(path)
    with rec.open_text(path, newline="") as stream:
        lines, header = _Lines(stream), list[str]()
        while True:
            first = lines.begin()
            try:
                fields = next(csv.reader(lines, delimiter=separator, strict=True), None)
            except csv.Error as error:
                yield _broken_fields(path.name, first, lines.taken, error)
                lines.give_back()
                continue
            if fields is None:
                return
            if not any(field.strip() for field in fields):
                continue
            if header:
                yield _fields(path.name, first, header, fields, "".join(lines.taken))
            else:
                header = _header(path.name, fields)


def _separator(path: Path) -> str:
    if rec.extension(path) != ".csv":
        return "\t"
    first = next((line for line in rec.text_head(path).splitlines() if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", first)
    return max(",;\t|", key=bare.count)


def _header(source: str, fields: list[str]) -> list[str]:
    if rec.bad_bytes(source, 1, "".join(fields)):
        raise WorkbenchError(f"The header of {source} is not UTF-8. Save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8').")
    names = [field.strip() or f"column {number}" for number, field in enumerate(fields, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise WorkbenchError(f"{source} has two columns called {twice[0]!r}. Rename one of them in the header.")
    return names


def _fields(source: str, line: int, header: list[str], fields: list[str], raw: str) -> Record | Reject:
    if len(raw) >= HUGE:
        return rec.huge(source, line, raw)
    if wrong := rec.bad_bytes(source, line, raw):
        return wrong
    if len(fields) != len(header):
        return rec.reject(
            source,
            line,
            f"The row has {len(fields)} fields, but the header has {len(header)}.",
            "Put a text that holds the separator or a line break into double quotes.",
            raw,
        )
    row = dict(zip(header, fields, strict=True))
    return Record(line, rec.mend(row) if rec.MENDABLE.search(raw) else row, raw[: rec.EXCERPT])


def _broken_fields(source: str, line: int, taken: list[str], error: csv.Error) -> Reject:
    raw, long = taken[0], str(error) == TOO_LONG or "field limit" in str(error)
    if long and len(taken) == 1:
        return rec.huge(source, line, raw)
    if long or "unexpected end" in str(error):
        return rec.reject(source, line, f"A quote that is opened in line {line} is never closed.", "Close it, or double it.", raw)
    return rec.reject(
        source, line, f"The quotes in line {line} do not fit ({error}).", 'Write a quote inside a quoted text twice: "".', raw
    )


def read_columns(path: Path) -> Iterator[Record | Reject]:
    """Parquet, a thousand rows at a time; a damaged part becomes one reject for its rows, the others load."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise WorkbenchError(f"{path.name} is not a whole Parquet file ({_first_line(error)}). Fetch or write it again.") from error
    with file:
        first = 1
        for group in range(file.num_row_groups):
            rows, done = file.metadata.row_group(group).num_rows, 0
            try:
                for batch in file.iter_batches(batch_size=1000, row_groups=[group]):
                    batch.validate(full=True)
                    packed = packed_columns(batch.schema)
                    for row in batch.to_pylist():
                        yield plain_record(path.name, first + done, row, packed)
                        done += 1
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                reason = f"Rows {first + done} to {first + rows - 1} are damaged: {_first_line(error)}."
                yield rec.reject(path.name, first + done, reason, "Write the Parquet file again.")
            first += rows


def read_arrow(path: Path) -> Iterator[Record | Reject]:
    """An Arrow file or stream, also as Feather; what lies behind a damaged part cannot be found and is one reject."""
    yield from _batches(path.name, 1, path)


def read_saved(folder: Path) -> Iterator[Record | Reject]:
    """A folder that `datasets` saved: its Arrow files in their order, their rows counted through."""
    first = 1
    for path in saved_files(folder)[1:]:
        first = yield from _batches(folder.name, first, path)


def saved_files(folder: Path) -> list[Path]:
    """The files of a folder that `datasets` saved, the one that lists the others first."""
    listing = folder / rec.SAVED_SET
    try:
        names = [str(file["filename"]) for file in json.loads(listing.read_text(encoding="utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkbenchError(f"{listing} does not list the set's files as `datasets` does. Save the set again.") from error
    files = [folder / Path(name).name for name in names]  # the name alone: a listing may not lead out of its folder
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise WorkbenchError(f"{folder} lacks {missing[0]}, which its {rec.SAVED_SET} lists. Copy the whole folder, or save the set again.")
    return [listing, *files]


def _batches(source: str, first: int, path: Path) -> Generator[Record | Reject, None, int]:
    """The rows of one file, counted from `first` on; returns the number of the row behind the last."""
    try:
        with _opened(path) as batches:
            for batch in batches:
                batch.validate(full=True)  # what a damaged file says of its own lengths is believed otherwise, and ends the process
                packed = packed_columns(batch.schema)
                for start in range(0, batch.num_rows, 1000):
                    for row in batch.slice(start, 1000).to_pylist():
                        yield plain_record(source, first, row, packed)
                        first += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = f"From row {first} on {path.name} is damaged: {_first_line(error)}."
        yield rec.reject(source, first, reason, "Write the Arrow file again.")
        first += 1
    return first


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[pa.RecordBatch]]:
    with pa.memory_map(str(path)) as file:
        if file.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(file)
            yield (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            file.seek(0)
            yield iter(pa.ipc.open_stream(file))


def packed_columns(schema: pa.Schema) -> frozenset[str]:
    """The columns that an export marked: they hold JSON as text, because their values are of several kinds."""
    return frozenset(field.name for field in schema if (field.metadata or {}).get(PACKED) == b"json")


def plain_record(source: str, line: int, row: dict[str, Any], packed: frozenset[str] = frozenset()) -> Record | Reject:
    """A row of a table as a record; what stands as JSON in `packed` columns is unpacked."""
    value = {name: _unpacked(item) if name in packed else item for name, item in _plain(row).items()}
    raw = json.dumps(value, ensure_ascii=False)
    return rec.huge(source, line, raw) if len(raw) >= HUGE else rec.as_record(source, line, value, raw)


def _plain(value: Any) -> Any:
    """Arrow's values as JSON has them; nulls that a struct column made up are left out again."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def _unpacked(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return text


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
