"""What data looks like before it is brought in: its columns, how they would be read, and a name for the set, for the page's column mapper.

Reads the first rows only and changes nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.materials import records as rec
from workbench.materials.bundles import ZIP
from workbench.materials.formats import ASKED, PROMPTS, format_of, guess_of, hints, opened_rows, read
from workbench.materials.guessing import Hint
from workbench.materials.records import Record
from workbench.materials.rows import Example

ROLES = ASKED
"""What a column can be: prompt, answer, input, system, text, messages, question."""
UNANSWERED = "No row has an answer, so nothing can be learnt from them. They are brought in as questions, for asking models in Compare."
SAMPLE = 50
BEGINS, MOST = 160, 4  # characters of a turn that are shown, and turns
KINDS = (*rec.KINDS, *rec.PACKED, ZIP)
"""What the names of files that can be read end in."""


@dataclass(frozen=True)
class Foreseen:
    """What is known of a file from its first rows. `guess` holds columns by role where they were guessed, `hints` what to know of it, and
    `turns` the first row as it would be read, a role and a text each."""

    columns: Sequence[str] = ()
    guess: Mapping[str, str] | None = None
    hints: Sequence[Hint] = ()
    turns: Sequence[tuple[str, str]] = ()


def foreseen(path: Path) -> Foreseen:
    """What would be made of the file; nothing is known of a .zip before it is unpacked.

    Raises:
        WorkbenchError: the file is missing, damaged as a whole, or of an unknown kind.
    """
    if path.suffix.lower() == ZIP:
        return Foreseen()
    sample = [row.value for row, _ in islice(opened_rows(path, {}), SAMPLE) if isinstance(row, Record)]
    names = list(dict.fromkeys(str(column) for row in sample for column in row))
    guessed = guess_of(sample)
    if guessed is None and (asks := asking(sample)):
        columns = {"question": asks}
        return Foreseen(names, columns, [*hints(path), Hint(UNANSWERED)], first_turns(path, columns))
    return Foreseen(names, guessed.columns if guessed else None, hints(path), first_turns(path, {}) if sample else [])


def asking(sample: Sequence[Mapping[str, Any]]) -> str:
    """The column that asks where no row has an answer; empty where one has, or nothing asks."""
    names = [name for row in sample[:1] for name in row if str(name).strip().lower() in ("turns", *PROMPTS)]
    return next((name for name in names if all(row.get(name) and not format_of(row) for row in sample)), "")


def first_turns(path: Path, columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """The first row that can be read with these columns, as its turns; none where no row at the beginning can be.

    Raises:
        WorkbenchError: as `formats.read`.
    """
    example = next((row for row in islice(read(path, columns), SAMPLE) if isinstance(row, Example)), None)
    if example is None:
        return []
    turns = [(str(turn["role"]), str(turn["content"] or "")) for turn in example.messages] or [("text", example.text)]
    return [(role, f"{text[:BEGINS]}…" if len(text) > BEGINS else text) for role, text in turns[:MOST]]


def named_after(path: Path) -> str:
    """A name for the data set from its file's name: `My Rows (2).jsonl.gz` → `My-Rows-2`."""
    bare = path.name
    for ending in rec.PACKED:
        bare = bare.removesuffix(ending)
    stem = bare.removesuffix(Path(bare).suffix) or bare
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:64] or "mine"
