"""What a data file looks like before it is brought in: its columns, for the page's column mapper, and a name for the set.

Reads the first rows only and decides nothing about them.
"""

import re
from itertools import islice
from pathlib import Path

from workbench.materials import records as rec
from workbench.materials.formats import ASKED
from workbench.materials.readers import records
from workbench.materials.records import Record

ROLES = ASKED
"""What a column can be: prompt, answer, input, system, text, messages."""
SAMPLE = 50
KINDS = (*rec.KINDS, *rec.PACKED)
"""What the names of files that can be read end in."""


def columns_of(path: Path) -> list[str]:
    """The names of all columns in the first rows, in the order in which they first occur.

    Raises:
        WorkbenchError: the file is missing, damaged as a whole, or of an unknown kind.
    """
    rows = [row.value for row in islice(records(path), SAMPLE) if isinstance(row, Record)]
    return list(dict.fromkeys(str(column) for row in rows for column in row))


def named_after(path: Path) -> str:
    """A name for the data set from its file's name: `My Rows (2).jsonl.gz` → `My-Rows-2`."""
    bare = path.name
    for ending in rec.PACKED:
        bare = bare.removesuffix(ending)
    stem = bare.removesuffix(Path(bare).suffix) or bare
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:64] or "mine"
