"""A data set as the workspace keeps it: a folder with the original, rows.parquet, rejects.parquet and about.yaml.

What it is: `Example` and `Reject` to Parquet and back; nested values stand as JSON text, so that no type is ever guessed. Rows are read
when they are asked for: a million of them would not fit into memory as Python values.
What it is not: it does not decide where the folder lies or what goes in (`corpus.py`, `jobs/curate.py`).
"""

import json
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields
from itertools import accumulate
from pathlib import Path
from typing import Any, Self, overload

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from workbench.core.errors import WorkbenchError
from workbench.materials.guessing import Hint
from workbench.materials.rows import Example, Reject

ORIGINAL, ROWS, REJECTS, ABOUT = "original", "rows.parquet", "rejects.parquet", "about.yaml"
EXAMPLES = pa.schema(
    {"messages": pa.string(), "text": pa.string(), "source": pa.string(), "line": pa.int64(), "format": pa.string(), "meta": pa.string()}
    | {"worse": pa.string(), "learn": pa.string()}
)
NESTED = ("messages", "meta", "worse", "learn")  # as JSON text
REFUSALS = pa.schema([(field.name, pa.int64() if field.name == "line" else pa.string()) for field in fields(Reject)])


@dataclass(frozen=True)
class About:
    """What is known of a kept data set without opening it."""

    name: str
    format: str
    rows: int
    rejects: int
    original: str  # name of the file under original/
    bytes: int
    sha256: str
    columns: dict[str, str]
    made: str  # date and time, ISO 8601
    hints: list[Hint] = field(default_factory=list)  # what to know of how the file was read


class Keeper:
    """Writes rows and rejects into a folder in batches; a context manager, because a Parquet file is whole only when closed."""

    def __init__(self, folder: Path):
        places = ((folder / ROWS, EXAMPLES), (folder / REJECTS, REFUSALS))
        self._files = [pq.ParquetWriter(path, schema, compression="zstd") for path, schema in places]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        for file in self._files:
            file.close()

    def write(self, rows: Iterable[Example | Reject]) -> None:
        """Append a batch of rows to the two files."""
        batch = list(rows)
        examples = [vars(row) for row in batch if isinstance(row, Example)]
        rejects = [vars(row) for row in batch if isinstance(row, Reject)]
        for file, schema, found in zip(self._files, (EXAMPLES, REFUSALS), (examples, rejects), strict=True):
            if found:
                file.write_table(pa.table({name: _column(name, found) for name in schema.names}, schema=schema))


class KeptRows(Sequence[Example]):
    """The examples of a kept data set in the order of the original: read batch by batch in a loop, one by one where they are asked for.

    What is asked for again and again lies near: the batches that were last read are held.
    """

    HELD = 4  # batches

    def __init__(self, folder: Path):
        self._path = folder / ROWS
        with _whole(self._path):
            footer = pq.read_metadata(self._path)
        self._ends = list(accumulate(footer.row_group(group).num_rows for group in range(footer.num_row_groups)))
        self._near: dict[int, pa.Table] = {}
        self._lock = threading.Lock()  # pages are asked for by several people at once

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Example]:
        with _whole(self._path), pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=1000):
                yield from map(unflat, batch.to_pylist())

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            places = range(*index.indices(len(self)))
            return list(self._stretch(places[0], places[-1] + 1)) if places and places.step == 1 else [self[place] for place in places]
        place = range(len(self))[index]  # counts from the end too, and refuses what is beyond
        group = bisect_right(self._ends, place)
        first = self._ends[group - 1] if group else 0
        return unflat(self._batch(group).slice(place - first, 1).to_pylist()[0])

    def _stretch(self, first: int, last: int) -> Iterator[Example]:
        """The rows from `first` to the one before `last`, each batch asked for once."""
        while first < last:
            group = bisect_right(self._ends, first)
            start, end = self._ends[group - 1] if group else 0, min(last, self._ends[group])
            yield from map(unflat, self._batch(group).slice(first - start, end - first).to_pylist())
            first = end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Example.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def formats(self) -> Counter[str]:
        """How many rows there are of each format."""
        with _whole(self._path):
            counts = pq.read_table(self._path, columns=["format"])["format"].value_counts().to_pylist()
        return Counter({count["values"]: count["counts"] for count in counts})

    def _batch(self, group: int) -> pa.Table:
        with self._lock, _whole(self._path):
            table = self._near.pop(group, None)
            if table is None:
                with pq.ParquetFile(self._path) as file:
                    table = file.read_row_group(group)
            self._near[group] = table
            while len(self._near) > self.HELD:
                del self._near[next(iter(self._near))]
        return table


class KeptRejects(Sequence[Reject]):
    """The rejects of a kept data set, in the order of the original, read when they are asked for: every row of a file may be one."""

    def __init__(self, folder: Path):
        self._path = folder / REJECTS
        with _whole(self._path):
            self._count = pq.read_metadata(self._path).num_rows

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Reject]:
        with _whole(self._path), pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=1000):
                yield from (Reject(**row) for row in batch.to_pylist())

    @overload
    def __getitem__(self, index: int) -> Reject: ...
    @overload
    def __getitem__(self, index: slice) -> list[Reject]: ...
    def __getitem__(self, index: int | slice) -> Reject | list[Reject]:
        return list(self)[index]  # nobody looks one up by its place; the first ones are had by going through


def read_rejects(folder: Path) -> list[Reject]:
    """All rejects of a kept data set, in the order of the original."""
    return list(KeptRejects(folder))


def read_about(folder: Path) -> About:
    """The data set's facts; a damaged or missing about.yaml is an error that says what to do."""
    try:
        given = yaml.safe_load((folder / ABOUT).read_text(encoding="utf-8"))
        about = About(**{**given, "hints": [Hint(**hint) for hint in given.get("hints", [])]})
        _check_types(about)
        return about
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise WorkbenchError(
            f"The data set {folder.name} in the workspace is damaged: {ABOUT} cannot be read. Delete {folder} and bring the file in again."
        ) from error


def _check_types(about: About) -> None:
    """TypeError where a hand-edited about.yaml holds something else than it should."""
    kinds = {"columns": dict, "hints": list, "rows": int, "rejects": int, "bytes": int}
    for value, one in zip(astuple(about), fields(about), strict=True):
        if not isinstance(value, kinds.get(one.name, str)):
            raise TypeError(f"{one.name} is {value!r}")


def write_about(folder: Path, about: About) -> None:
    (folder / ABOUT).write_text(yaml.safe_dump(asdict(about), sort_keys=False, allow_unicode=True), encoding="utf-8")


def original(folder: Path) -> Path:
    """The copy of the file, or of the folder, as it was brought."""
    return folder / ORIGINAL / read_about(folder).original


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """What reading a damaged file raises, told as a sentence."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise WorkbenchError(
            f"The data set {path.parent.name} in the workspace is damaged: {path.name} cannot be read. "
            f"Delete {path.parent} and bring the file in again."
        ) from error


def flat(example: Example) -> dict[str, Any]:
    """The example as the columns of `EXAMPLES`."""
    return {name: _column(name, [vars(example)])[0] for name in EXAMPLES.names}


def _column(name: str, rows: list[dict[str, Any]]) -> list[Any]:
    return [_packed(row[name]) for row in rows] if name in NESTED else [row[name] for row in rows]


def unflat(row: dict[str, Any]) -> Example:
    """The example of such columns; those that an older file does not have are empty."""
    for name in NESTED:
        row[name] = _unpacked(row.get(name, "[]"))
    row["messages"], row["worse"] = tuple(row["messages"]), tuple(row["worse"])
    row["learn"] = tuple((start, end) for start, end in row["learn"])
    return Example(**row)


def _packed(value: Any) -> str:
    """JSON text; with a space before it where a number has more than 64 bits, which orjson would not give back to the last digit."""
    if not value:
        return "{}" if isinstance(value, dict) else "[]"
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return " " + json.dumps(value)


def _unpacked(text: str) -> Any:
    if len(text) == 2:
        return {} if text == "{}" else []
    return json.loads(text) if text.startswith(" ") else orjson.loads(text)
