"""Examples into files, a form each: JSON lines, Parquet, a folder that `datasets` opens, CSV.

What it is: the list of forms, and the writer of JSON lines; tables are `table_writers.py`. All are streams, and all read back every row
as they write it: where what comes back is not the row, it is refused by name. What stands in a file is whole, but for a CSV, where other
columns are text (3 is '3', nothing is '', what is nested is JSON), and those that change so are told. What it is not: it knows no card and
no folder (`jobs/exporting.py`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from workbench.materials import records as rec
from workbench.materials.formats import understood
from workbench.materials.readback import HUGE, check, packed
from workbench.materials.rows import Example
from workbench.materials.sayings import SAYINGS, UnsayableError
from workbench.materials.table_writers import BATCH, Refuse, Writing, parquet, saved, sheet


@dataclass(frozen=True)
class Form:
    """How rows are written: what it is in words, the name of the file or folder, and how often `write` goes through the rows."""

    about: str
    file: str
    write: Callable[[Iterable[Example], Path, Refuse], Writing]
    walks: int = 1


# JSON lines.


def _lines(say: Callable[[Example], dict[str, Any]]) -> Callable[[Iterable[Example], Path, Refuse], Writing]:
    def write(rows: Iterable[Example], place: Path, refuse: Refuse) -> Writing:
        with place.open("wb") as file:
            for number, row in enumerate(rows, start=1):
                try:
                    file.write(_line(row, say(row)) + b"\n")
                except UnsayableError as reason:
                    refuse(number, row, str(reason))
                if number % BATCH == 0:
                    yield number
        return []

    return write


def _line(row: Example, record: dict[str, Any]) -> bytes:
    try:
        line = orjson.dumps(record)
    except TypeError:  # numbers of more than 64 bits
        line = packed(record).encode("utf-8", "backslashreplace")
    text = line.decode()
    if len(text) >= rec.HUGE:
        raise UnsayableError(HUGE)
    check(row, understood("", rec.parse("", 1, text)), row.meta)
    return line


FORMS: dict[str, Form] = {
    "messages": Form("conversations as OpenAI's chat messages, JSON lines", "data.jsonl", _lines(SAYINGS["messages"])),
    "sharegpt": Form("conversations as ShareGPT writes them, JSON lines", "data.jsonl", _lines(SAYINGS["sharegpt"])),
    "alpaca": Form("an instruction and its output, JSON lines", "data.jsonl", _lines(SAYINGS["alpaca"])),
    "prompt_completion": Form("a prompt and its completion, JSON lines", "data.jsonl", _lines(SAYINGS["prompt_completion"])),
    "preference": Form("a prompt, a chosen and a rejected answer, JSON lines", "data.jsonl", _lines(SAYINGS["preference"])),
    "text": Form("plain texts that are learnt whole, JSON lines", "data.jsonl", _lines(SAYINGS["text"])),
    "segments": Form("texts in pieces, some of them learnt, JSON lines", "data.jsonl", _lines(SAYINGS["segments"])),
    "parquet": Form("rows of every kind in one Parquet file", "data.parquet", parquet, walks=2),
    "datasets": Form("rows of every kind in a folder that datasets.load_from_disk opens", "data", saved, walks=2),
    "csv": Form("rows of one kind for a spreadsheet, CSV", "data.csv", sheet, walks=2),
}
