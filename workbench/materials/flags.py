"""What a selection step answered, as a file: of each row whether it stays, why not, its number, what it was changed to, its group.

What it is not: it decides nothing. A file that is damaged counts as none: the step is then counted anew.
"""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.materials.kept import flat, unflat
from workbench.materials.rows import Selection

SCHEMA = pa.schema({"kept": pa.bool_(), "reason": pa.string(), "score": pa.float64(), "changed": pa.string(), "group": pa.int64()})
HELD = 64  # files in a folder; the oldest go


def write(path: Path, selection: Selection) -> None:
    """The file is whole when it appears; where it cannot be written, none does."""
    count = len(selection.kept)
    changed = {row: json.dumps(flat(example)) for row, example in selection.changed.items()}
    columns = {
        "kept": selection.kept,
        "reason": [selection.reasons.get(row) for row in range(count)],
        "score": selection.scores if len(selection.scores) else [None] * count,
        "changed": [changed.get(row) for row in range(count)],
        "group": selection.groups if len(selection.groups) else [None] * count,
    }
    about = {"cuts": selection.cuts, "what": selection.what, "scored": len(selection.scores) > 0, "grouped": len(selection.groups) > 0}
    table = pa.table(columns, schema=SCHEMA.with_metadata({b"about": json.dumps(about).encode()}))
    with suppress(OSError):  # a full disk, or another window that tidies up too, is no reason to lose the answer itself
        handle, coming = tempfile.mkstemp(dir=path.parent, suffix=".coming")
        os.close(handle)
        pq.write_table(table, coming, compression="zstd")
        Path(coming).replace(path)
        for file in sorted(path.parent.glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)[:-HELD]:
            file.unlink(missing_ok=True)


def read(path: Path) -> Selection | None:
    """The selection as it was written; None where there is none, or none that can be read."""
    try:
        table = pq.read_table(path, schema=SCHEMA)
        about = json.loads(pq.read_schema(path).metadata[b"about"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    values = {name: table[name].to_pylist() for name in SCHEMA.names}
    return Selection(
        values["kept"],
        {row: reason for row, reason in enumerate(values["reason"]) if reason is not None},
        values["score"] if about["scored"] else (),
        tuple(about["cuts"]),
        about["what"],
        {row: unflat(json.loads(example)) for row, example in enumerate(values["changed"]) if example is not None},
        values["group"] if about.get("grouped") else (),
    )
