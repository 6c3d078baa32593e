"""Bringing a file into the workspace as a job: copied, read, kept as rows and rejects, whole or not at all.

Neither rows nor rejects are held in memory beyond a batch. What it is not: it reads no format (`materials/formats.py`) and shows nothing
(`curate.py`).
"""

import hashlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.core.words import count
from workbench.core.workspace import Workspace, named
from workbench.materials import kept
from workbench.materials.corpus import no_row, usual
from workbench.materials.formats import read
from workbench.materials.readers import files_of
from workbench.materials.records import ARROW, COLUMNS, GZIP, SAVED, ZSTD, kind_of
from workbench.materials.rows import Example, Reject

BATCH = 2000  # rows written at once, and between two signs of life
CHUNK = 8 << 20  # bytes copied at once
SHOWN = 500  # rows of a table of dropped rows
REFUSED = 100  # rows of a table of rejects
COMING = ".coming-"  # what the folder of a data set is called until it is whole
LEFT = 3600.0  # seconds in which nothing was written to such a folder, after which it is taken for one that a killed process left


@dataclass
class Counted:
    """What was read so far: how many rows of each format, how many rejects, and the first of them."""

    formats: Counter[str] = field(default_factory=Counter)
    rejects: int = 0
    first: list[Reject] = field(default_factory=list)

    def add(self, batch: list[Example | Reject]) -> None:
        self.formats.update(row.format for row in batch if isinstance(row, Example))
        refused = [row for row in batch if isinstance(row, Reject)]
        self.rejects += len(refused)
        self.first += refused[: REFUSED - len(self.first)]


def ingest(path: Path, name: str, workspace: Workspace, columns: Mapping[str, str] = {}) -> Generator[Event, None, None]:
    """Copy the file into the workspace and read it there; ends with `Made("data", folder)`.

    The folder appears under its name only when it is whole; a stop or an error leaves nothing, and what a kill leaves is taken away later.
    The original is copied, never touched.

    Raises:
        WorkbenchError: the name is taken or cannot be one, the file cannot be read, or no row of it can be learnt from.
    """
    target = workspace.data() / named(name)
    _check_free(target)
    next(read(path, columns))  # a file that cannot be read is refused before it is copied
    sweep(workspace)
    folder = Path(tempfile.mkdtemp(prefix=COMING, dir=workspace.data()))
    try:
        yield Started(total=sum(file.stat().st_size for file in files_of(path)), about={"file": str(path), "name": name})
        copy = folder / kept.ORIGINAL / path.name
        lines, digest = yield from _copy(path, copy)
        found = yield from _keep(copy, folder, columns, lines)
        if not found.formats:
            raise WorkbenchError(no_row(path.name, found.first, found.rejects))
        about = kept.About(
            name=name,
            format=usual(found.formats),
            rows=found.formats.total(),
            rejects=found.rejects,
            original=path.name,
            bytes=sum(file.stat().st_size for file in files_of(copy)),
            sha256=digest,
            columns=dict(columns),
            made=datetime.now().isoformat(timespec="seconds"),
        )
        kept.write_about(folder, about)
        _check_free(target)
        if target.exists():
            target.rmdir()
        folder.rename(target)
        if found.rejects:
            yield rejects_table(found.first)
            yield Noted(f"{count(found.rejects, 'row')} could not be read; each is in {kept.REJECTS} with its reason.", "watch")
        yield Made("data", str(target))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(workspace: Workspace) -> None:
    """Take away what ended in the middle because its process was killed: folders that are not whole and to which nobody writes any more."""
    for folder in workspace.data().glob(f"{COMING}*"):
        changed = [file.stat().st_mtime for file in (folder, *folder.rglob("*")) if file.exists()]
        if time.time() - max(changed, default=0) > LEFT:
            shutil.rmtree(folder, ignore_errors=True)


def _check_free(target: Path) -> None:
    """Raise if the name is taken: looked at before the work, and again behind it, because another window may have brought one in."""
    if target.exists() and any(target.iterdir()):
        raise WorkbenchError(f"There is a data set {target.name!r} already. Choose another name, or delete that one first.")


def _copy(path: Path, copy: Path) -> Generator[Progress, None, tuple[int, str]]:
    """Copies, and returns the number of line ends and the SHA-256, of a folder's files one after another."""
    files, done, lines, digest = files_of(path), 0, 0, hashlib.sha256()
    try:
        size = sum(file.stat().st_size for file in files)
        for file in files:
            to = copy if file == path else copy / file.name
            to.parent.mkdir(exist_ok=True, parents=True)
            with file.open("rb") as source, to.open("wb") as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    digest.update(chunk)
                    done, lines = done + len(chunk), lines + chunk.count(b"\n")
                    yield Progress(done, size, "bytes copied")
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be copied into the workspace: {error.strerror}. Check the disk and the rights.") from error
    return lines, digest.hexdigest()


def _keep(copy: Path, folder: Path, columns: Mapping[str, str], lines: int) -> Generator[Progress, None, Counted]:
    """Writes the rows and the rejects, and returns how many there are."""
    found, rows, total = Counted(), read(copy, columns), _length(copy, lines)
    with kept.Keeper(folder) as keeper:
        while batch := list(islice(rows, BATCH)):
            keeper.write(batch)
            found.add(batch)
            here, taken = batch[-1].line, found.formats.total()
            known = max(here, taken + found.rejects) <= total + 1  # a last line may have no end, and all of a JSON file may be one line
            yield Progress(here, max(here, total) if known else 0, f"read: {count(taken, 'row')}, {count(found.rejects, 'reject')}")
    return found


def _length(path: Path, lines: int) -> int:
    """Up to which number the rows of a file are counted, which has so many line ends; 0 where nobody knows before they are read."""
    kind = kind_of(path)
    if kind in (COLUMNS, ARROW, SAVED):
        return pq.read_metadata(path).num_rows if kind == COLUMNS else 0
    with path.open("rb") as file:
        return 0 if file.read(4).startswith((GZIP, ZSTD)) else lines


def rejects_table(rejects: Iterable[Reject]) -> Table:
    """The first rejects with place, reason and remedy."""
    rows = [[reject.line, reject.column, reject.reason, reject.remedy, reject.excerpt] for reject in islice(rejects, REFUSED)]
    return Table("rejects", ["line", "column", "reason", "what to do", "begins with"], rows)
