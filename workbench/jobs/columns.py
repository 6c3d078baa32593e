"""The columns of a data file, for the page's column mapper. Reads the first rows only and decides nothing about them."""

from itertools import islice
from pathlib import Path

from workbench.materials.formats import ASKED
from workbench.materials.readers import records
from workbench.materials.records import Record

ROLES = ASKED
"""What a column can be: prompt, answer, input, system, text, messages."""
SAMPLE = 50


def columns_of(path: Path) -> list[str]:
    """The names of all columns in the first rows, in the order in which they first occur.

    Raises:
        WorkbenchError: the file is missing, damaged as a whole, or of an unknown kind.
    """
    rows = [row.value for row in islice(records(path), SAMPLE) if isinstance(row, Record)]
    return list(dict.fromkeys(str(column) for row in rows for column in row))
