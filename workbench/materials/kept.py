"""A data set as the workspace keeps it: a folder with the original, rows.parquet, rejects.parquet and about.yaml.

What it is: `Example` and `Reject` to Parquet and back; nested values stand as JSON text, so that no type is ever guessed.
What it is not: it does not decide where the folder lies or what goes in (`corpus.py`, `jobs/curate.py`).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from workbench.core.errors import WorkbenchError
from workbench.materials.rows import Example, Reject

ORIGINAL, ROWS, REJECTS, ABOUT = "original", "rows.parquet", "rejects.parquet", "about.yaml"
EXAMPLES = pa.schema(
    {"messages": pa.string(), "text": pa.string(), "source": pa.string(), "line": pa.int64(), "format": pa.string(), "meta": pa.string()}
)
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
        examples = [_flat(row) for row in batch if isinstance(row, Example)]
        rejects = [vars(row) for row in batch if isinstance(row, Reject)]
        for file, schema, found in zip(self._files, (EXAMPLES, REFUSALS), (examples, rejects), strict=True):
            if found:
                file.write_table(pa.Table.from_pylist(found, schema=schema))


def read_rows(folder: Path) -> list[Example]:
    """All examples of a kept data set, in the order of the original."""
    return [_example(row) for row in _table(folder / ROWS, EXAMPLES)]


def read_rejects(folder: Path) -> list[Reject]:
    """All rejects of a kept data set, in the order of the original."""
    return [Reject(**row) for row in _table(folder / REJECTS, REFUSALS)]


def read_about(folder: Path) -> About:
    """The data set's facts; a damaged or missing about.yaml is an error that says what to do."""
    try:
        about = About(**yaml.safe_load((folder / ABOUT).read_text(encoding="utf-8")))
        _check_types(about)
        return about
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise WorkbenchError(
            f"The data set {folder.name} in the workspace is damaged: {ABOUT} cannot be read. Delete {folder} and bring the file in again."
        ) from error


def _check_types(about: About) -> None:
    """TypeError where a hand-edited about.yaml holds something else than it should."""
    for value, field in zip(astuple(about), fields(about), strict=True):
        kind = dict if field.name == "columns" else int if field.name in ("rows", "rejects", "bytes") else str
        if not isinstance(value, kind):
            raise TypeError(f"{field.name} is {value!r}")


def write_about(folder: Path, about: About) -> None:
    (folder / ABOUT).write_text(yaml.safe_dump(vars(about), sort_keys=False, allow_unicode=True), encoding="utf-8")


def original(folder: Path) -> Path:
    """The copy of the file as it was brought."""
    return folder / ORIGINAL / read_about(folder).original


def _table(path: Path, schema: pa.Schema) -> Sequence[dict[str, Any]]:
    try:
        return pq.read_table(path, schema=schema).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise WorkbenchError(
            f"The data set {path.parent.name} in the workspace is damaged: {path.name} cannot be read. "
            f"Delete {path.parent} and bring the file in again."
        ) from error


def _flat(example: Example) -> dict[str, Any]:
    return {**vars(example), "messages": json.dumps(example.messages), "meta": json.dumps(example.meta)}


def _example(row: dict[str, Any]) -> Example:
    return Example(**{**row, "messages": tuple(json.loads(row["messages"])), "meta": json.loads(row["meta"])})
