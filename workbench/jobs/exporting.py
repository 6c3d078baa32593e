"""Rows into a folder that others can use: the file in the form that was asked for, and a card that says what it is and how to load it.

What it is: one job, `export`. What it is not: it knows no recipe and chooses no rows; what a row looks like in a file is `writers.py`.

    TO/data.jsonl          or data.parquet, data.csv, or data/, a folder that `datasets` opens
    TO/README.md           the card: counts, steps, licences, hashes, how to load it here and in other tools
    TO/dataset_info.json   the same for LLaMA-Factory, where it can read the form
"""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.core.words import count
from workbench.jobs.datacard import Written, card, llama_factory
from workbench.materials.rows import Example
from workbench.materials.writers import FORMS

CHUNK = 8 << 20  # bytes that are hashed at once
SHOWN = 200  # refused rows in the table


def export(rows: Iterable[Example], total: int, to: Path, form: str, about: Mapping[str, Any]) -> Iterator[Event]:
    """Write the rows into the folder `to`; ends with `Made("data", to)`. The folder appears only when it is whole.

    A row that the form cannot say as it is is left out, counted and named (`Noted`, and a table of the first ones).

    Args:
        total: how many rows there are, for the progress.
        form: one of `writers.FORMS`.
        about: what the card should say: `name`, `steps` (a list), and whatever else is worth a line.

    Raises:
        WorkbenchError: there is no such form, `to` holds something already, no row can be said, or the disk refuses.
    """
    check(to, form)
    yield Started(total, {"form": form, "to": str(to)})
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        coming = Path(tempfile.mkdtemp(prefix=".coming-", dir=to.parent))
        try:
            folder = coming / "whole"  # a temporary folder is for its maker alone, and this one for whoever may read new folders
            folder.mkdir()
            yield from _whole(rows, total, folder, to, form, about)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
    except OSError as error:
        raise WorkbenchError(f"{to} cannot be written: {error.strerror or error}. Check the disk and the rights.") from error
    yield Made("data", str(to))


def check(to: Path, form: str) -> None:
    """Raises `WorkbenchError` where nothing can be written there, or in that form; asked before long work."""
    if form not in FORMS:
        raise WorkbenchError(f"There is no form {form!r} to export rows in. There are: {', '.join(FORMS)}.")
    _check_free(to)


def _check_free(to: Path) -> None:
    if to.is_dir() and any(to.iterdir()):
        raise WorkbenchError(f"The folder {to} holds something already. Choose another, or empty it first.")
    if to.exists() and not to.is_dir():
        raise WorkbenchError(f"{to} is a file, and an export is a folder. Choose another place.")


def _whole(rows: Iterable[Example], total: int, folder: Path, to: Path, form: str, about: Mapping[str, Any]) -> Iterator[Event]:
    tally = _Tally()
    told = yield from _progress(FORMS[form].write(tally.seen(rows), folder / FORMS[form].file, tally.refuse), total * FORMS[form].walks)
    if tally.rows == tally.refused:
        raise WorkbenchError(tally.nothing(form))
    hashes = yield from _hashed(folder)
    written = Written(to.name, form, tally.rows, tally.refused, tally.reasons, tally.formats, +tally.licences, hashes, told)
    stub = llama_factory(written)
    if stub:
        (folder / "dataset_info.json").write_text(json.dumps(stub, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(written, about), encoding="utf-8")
    for sentence in told:
        yield Noted(sentence, "watch")
    if tally.refused:
        yield Table("refused", ["row", "file", "line", "why", "begins with"], tally.table)
        yield Noted(tally.sentence(form), "watch")
    wrote = tally.rows - tally.refused
    yield Noted(f"{count(wrote, 'row')} written as {form}: {FORMS[form].about}.")
    _check_free(to)
    folder.rename(to)  # also where an empty folder is


def _progress(work: Generator[int, None, list[str]], total: int) -> Generator[Progress, None, list[str]]:
    while True:
        try:
            yield Progress(next(work), total, "rows written")
        except StopIteration as end:
            return list(end.value)


def _hashed(folder: Path) -> Generator[Progress, None, dict[str, tuple[int, str]]]:
    """Size and SHA-256 of each file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    size, done, hashes = sum(path.stat().st_size for path in files), 0, dict[str, tuple[int, str]]()
    for path in files:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                yield Progress(done, size, "bytes hashed")
        hashes[path.relative_to(folder).as_posix()] = path.stat().st_size, digest.hexdigest()
    return hashes


class _Tally:
    """What was seen of the rows on their way, and which were refused."""

    def __init__(self) -> None:
        self.rows = self.refused = 0
        self.formats, self.licences, self.reasons = Counter[str](), Counter[str](), Counter[str]()
        self.table = list[list[Any]]()

    def seen(self, rows: Iterable[Example]) -> Iterator[Example]:
        for row in rows:
            self.rows += 1
            self.formats[row.format or "made here"] += 1
            self.licences.update(_licences(row))
            yield row

    def refuse(self, number: int, row: Example, why: str) -> None:
        self.refused += 1
        self.licences.subtract(_licences(row))
        self.reasons[why] += 1
        if len(self.table) < SHOWN:
            self.table.append([number, row.source, row.line, why, row.as_text()[:200]])

    def _most_often(self) -> str:
        reason, often = self.reasons.most_common(1)[0]
        return f"The first such row {reason}" if often == self.refused else f"Most often ({often:,}) the row {reason}"

    def sentence(self, form: str) -> str:
        left = "is left out, because it" if self.refused == 1 else "are left out, because they"
        return f"{self.refused:,} of {count(self.rows, 'row')} {left} cannot be said as {form}. {self._most_often()}."

    def nothing(self, form: str) -> str:
        if not self.rows:
            return "There is no row to export. Choose another data set, or loosen its recipe."
        return f"None of the {count(self.rows, 'row')} can be said as {form}. {self._most_often()}. Choose another form, or other rows."


def _licences(row: Example) -> set[str]:
    return {str(value) for column, value in row.meta.items() if column.lower() in ("license", "licence") and value}


def forms() -> list[tuple[str, str]]:
    """(name, what it is) of every form that rows can be written in."""
    return [(name, form.about) for name, form in FORMS.items()]
