"""Examples into tables: Parquet, a folder that `datasets` opens, CSV; one of the kinds of `writers.py`, which lists them.

A table must know its columns before its first row, so the rows are gone through twice: first they are put aside as lines, and what their
columns hold is noted. In Parquet and Arrow a column whose values are nested or of several kinds holds them as JSON, and says so in its
metadata, by which our own reader unpacks it; others see text. There, a column without a value and one that is null are the same.
"""

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.materials import records as rec
from workbench.materials.formats import understood
from workbench.materials.readback import HUGE, check, packed
from workbench.materials.rows import Example
from workbench.materials.sayings import MORE, UnsayableError, any_kind, kind_of
from workbench.materials.tables import PACKED, packed_columns, plain_record

BATCH, HELD = 500, 16 << 20  # rows between two signs of life, and bytes of them that are held at once
ASIDE = "aside.jsonl"
ARROW = "data-00000-of-00001.arrow"
TYPES = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.string()}
KINDS = {"messages": ("messages",), "preference": ("prompt", "chosen", "rejected"), "text": ("text",), "segments": ("segments",)}
SEGMENTS = pa.list_(pa.struct([("label", pa.bool_()), ("text", pa.string())]))
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the beginning of a formula
NAMED = 20  # columns that are told by name
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")

Refuse = Callable[[int, Example, str], None]  # (the row's number from 1, the row, why: goes on from "the row")
Writing = Generator[int, None, list[str]]  # yields how many rows it has gone through, returns what a person should be told


# Rows aside, for what must be gone through twice.


class _Aside:
    """Rows as lines in a file beside the one that is written, and what was seen of their columns."""

    def __init__(self, place: Path):
        self._file = place.with_name(ASIDE)
        self.kinds, self.samples, self.turns, self.rows = Counter[str](), dict[str, Example](), set[str](), 0
        self.columns, self.digest = dict[str, set[str]](), hashlib.sha256()

    def put(self, rows: Iterable[Example], refuse: Refuse) -> Iterator[int]:
        with self._file.open("wb") as file:
            for number, row in enumerate(rows, start=1):
                try:
                    line = _whole(number, row)
                except UnsayableError as reason:
                    refuse(number, row, str(reason))
                else:
                    file.write(line + b"\n")
                    self.digest.update(line)
                    self._see(row)
                self.rows = number
                if number % BATCH == 0:
                    yield number

    def _see(self, row: Example) -> None:
        self.kinds[kind_of(row)] += 1
        self.samples.setdefault(kind_of(row), replace(row, text=row.text and "x" * len(row.text), meta={}))
        for turn in (*row.messages, *row.worse):
            self.turns.update(turn)
        for name, value in row.meta.items():
            kinds = self.columns.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))

    def taken(self) -> tuple[str, ...]:
        """The columns of the kinds that there are."""
        return tuple(name for kind, names in KINDS.items() if kind in self.kinds for name in names)

    def back(self) -> Iterator[list[tuple[int, Example]]]:
        """The rows with their numbers, some at a time; when they are through the file is gone."""
        batch, held = list[tuple[int, Example]](), 0
        with self._file.open("rb") as file:
            for line in file:
                number, fields = json.loads(line)
                batch.append((number, _example(fields)))
                held += len(line)
                if len(batch) == BATCH or held > HELD:
                    yield batch
                    batch, held = [], 0
        if batch:
            yield batch
        self._file.unlink()


def _whole(number: int, row: Example) -> bytes:
    any_kind(row)
    try:
        line = packed([number, vars(row)]).encode()
    except UnicodeEncodeError as error:
        raise UnsayableError("holds half a character (a lone surrogate)") from error
    if len(line) >= rec.HUGE:
        raise UnsayableError(HUGE)
    return line


def _example(fields: dict[str, Any]) -> Example:
    learn = tuple((start, end) for start, end in fields["learn"])
    return Example(**{**fields, "messages": tuple(fields["messages"]), "worse": tuple(fields["worse"]), "learn": learn})


def _kind(value: Any) -> str:
    kind = type(value).__name__
    return "json" if kind not in TYPES or (kind == "int" and not -(2**63) <= value < 2**63) else kind


# Parquet and Arrow.


def parquet(rows: Iterable[Example], place: Path, refuse: Refuse) -> Writing:
    yield from _table(rows, refuse, _Aside(place), lambda schema: pq.ParquetWriter(place, schema, compression="zstd"))
    return []


def saved(rows: Iterable[Example], place: Path, refuse: Refuse) -> Writing:
    """As `datasets.Dataset.save_to_disk` leaves a folder."""
    place.mkdir()
    aside = _Aside(place)
    yield from _table(rows, refuse, aside, lambda schema: pa.ipc.new_stream(place / ARROW, schema))
    state = {"_data_files": [{"filename": ARROW}], "_fingerprint": aside.digest.hexdigest()[:16], "_format_columns": None}
    state |= {"_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None}
    (place / rec.SAVED_SET).write_text(json.dumps(state, indent=2), encoding="utf-8")
    (place / "dataset_info.json").write_text(
        json.dumps({"citation": "", "description": "", "homepage": "", "license": ""}), encoding="utf-8"
    )
    return []


def _table(
    rows: Iterable[Example], refuse: Refuse, aside: _Aside, begin: Callable[[pa.Schema], AbstractContextManager[Any]]
) -> Iterator[int]:
    yield from aside.put(rows, refuse)
    schema = _schema(aside)
    nested = packed_columns(schema)
    with begin(schema) as sink:
        for batch in aside.back():
            fitting = [(number, row) for number, row in batch if _fits(number, row, aside.taken(), refuse)]
            table = pa.Table.from_pylist([_flat(any_kind(row), schema, nested) for _, row in fitting], schema=schema)
            whole = [_is_whole(*numbered, back, nested, refuse) for numbered, back in zip(fitting, table.to_pylist(), strict=True)]
            sink.write_table(table if all(whole) else table.filter(pa.array(whole, pa.bool_())))
            yield aside.rows + batch[-1][0]


def _fits(number: int, row: Example, taken: Sequence[str], refuse: Refuse) -> bool:
    clash = next((name for name in row.meta if name in taken), None)
    if clash is not None:
        refuse(number, row, f"has a column {clash!r} of its own, which means something else in this file")
    return clash is None


def _schema(aside: _Aside) -> pa.Schema:
    more = [(key, pa.bool_() if key == "train" else pa.string()) for key in MORE if key in aside.turns]
    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), *more]))
    types = {"text": pa.string(), "segments": SEGMENTS}
    fields = [pa.field(name, types.get(name, turns)) for name in aside.taken()]
    for name, kinds in aside.columns.items():
        if name not in aside.taken():
            plain = TYPES[next(iter(kinds))] if len(kinds) == 1 and kinds <= TYPES.keys() else None
            fields.append(pa.field(name, plain or pa.string(), metadata=None if plain else {PACKED: b"json"}))
    return pa.schema(fields)


def _flat(record: dict[str, Any], schema: pa.Schema, nested: frozenset[str]) -> dict[str, Any]:
    flat = dict[str, Any]()
    for field in schema:
        value = record.get(field.name)
        if pa.types.is_list(field.type) and field.type != SEGMENTS and isinstance(value, list):
            value = [{key: _cell_of_turn(key, item) for key, item in turn.items()} for turn in value]
        flat[field.name] = packed(value) if field.name in nested and value is not None else value
    return flat


def _cell_of_turn(key: str, value: Any) -> Any:
    if key == "train":
        return value if isinstance(value, bool) else None
    return value if value is None or isinstance(value, str) else packed(value)


def _is_whole(number: int, row: Example, back: dict[str, Any], nested: frozenset[str], refuse: Refuse) -> bool:
    try:
        check(
            row, understood("", plain_record("", 1, back, nested)), {name: value for name, value in row.meta.items() if value is not None}
        )
    except UnsayableError as reason:
        refuse(number, row, str(reason))
        return False
    return True


# CSV.


def sheet(rows: Iterable[Example], place: Path, refuse: Refuse) -> Writing:
    """One kind of rows, the most frequent one; all cells are text. A cell of another column that a spreadsheet would take for a formula
    gets an apostrophe before it; a text of this kind is refused, because it would be learnt with it. Other columns that hold anything but
    texts, or nothing in some rows, come back as texts; they are told by name.
    """
    aside, guarded, changed = _Aside(place), 0, set[str]()
    yield from aside.put(rows, refuse)
    kind = max(aside.kinds, key=lambda name: aside.kinds[name], default="messages")
    header = list(KINDS[kind])
    for name in aside.columns:
        header += [name] if _can_head(name, header, aside.samples[kind]) else []
    with place.open("w", encoding="utf-8", newline="") as file:
        file.write(_csv_line(header))
        for batch in aside.back():
            for number, row in batch:
                try:
                    if kind == "text" and _is_formula(row.text):
                        raise UnsayableError(f"begins with {row.text[0]!r}, which a spreadsheet takes for a formula")
                    file.write(_csv_row(row, _cells(row, kind, header)))
                    changed.update(name for name in header[len(KINDS[kind]) :] if not isinstance(row.meta.get(name), str))
                    guarded += sum(_is_formula(_text(value)) for value in row.meta.values())
                except UnsayableError as reason:
                    refuse(number, row, str(reason))
            yield aside.rows + batch[-1][0]
    return _told(guarded, [name for name in header if name in changed])


def _told(guarded: int, changed: Sequence[str]) -> list[str]:
    put = "was put before 1 cell" if guarded == 1 else f"was put before {guarded:,} cells"
    more = f" and {len(changed) - NAMED:,} more" if len(changed) > NAMED else ""
    told = [f"An apostrophe {put}, so that no spreadsheet takes what stands there for a formula."] if guarded else []
    return told + ([f"Other columns are text in a CSV: {', '.join(changed[:NAMED])}{more}."] if changed else [])


def _can_head(name: str, header: Sequence[str], sample: Example) -> bool:
    """Whether a column of this name is read back for what it is, though most rows may leave it empty."""
    if name in header or name != name.strip() or len(name.splitlines()) != 1 or name.startswith(FORMULA):
        return False
    try:
        _csv_row(sample, _cells(sample, kind_of(sample), [*header, name]))
    except UnsayableError:
        return False
    return True


def _cells(row: Example, kind: str, header: Sequence[str]) -> dict[str, str]:
    if kind_of(row) != kind:
        raise UnsayableError(f"is of another kind ({kind_of(row)}) than most, and a CSV has the columns of one ({kind})")
    lost = next((name for name in row.meta if name not in header), None)
    if lost is not None:
        raise UnsayableError(f"has a column {lost!r}, a name that a CSV cannot keep")
    record = any_kind(row)
    cells = {name: _text(record.get(name)) for name in header}
    return {name: f"'{cell}" if _is_formula(cell) else cell for name, cell in cells.items()}


def _csv_row(row: Example, cells: dict[str, str]) -> str:
    line = _csv_line(list(cells.values()))
    if len(line) >= rec.HUGE:
        raise UnsayableError(HUGE)
    csv.field_size_limit(rec.HUGE)
    fields = dict(zip(cells, next(csv.reader(io.StringIO(line, newline=""), strict=True)), strict=True))
    record = rec.Record(1, rec.mend(fields) if rec.MENDABLE.search(line) else fields, "")
    own = KINDS[kind_of(row)]
    check(row, understood("", record), {name: cell for name, cell in cells.items() if name not in own})
    return line


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow(cells)
    return line.getvalue()


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else packed(value)


def _is_formula(cell: str) -> bool:
    return cell.startswith(FORMULA) and not NUMBER.fullmatch(cell)
