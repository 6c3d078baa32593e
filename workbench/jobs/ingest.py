"""Bringing a file into the workspace as a job: copied, read, kept as rows and rejects, whole or not at all.

Neither rows nor rejects are held in memory beyond a batch. What it is not: it reads no format (`materials/formats.py`) and shows nothing
(`curate.py`).
"""

import hashlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

import pyarrow.parquet as pq

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.core.words import count
from workbench.core.workspace import Workspace, named
from workbench.materials import kept
from workbench.materials.bundles import hints_of, is_bundle, members
from workbench.materials.corpus import no_row, usual
from workbench.materials.formats import read
from workbench.materials.readers import files_of
from workbench.materials.records import ARROW, COLUMNS, GZIP, SAVED, ZSTD, kind_of
from workbench.materials.rows import Example, Reject

BATCH = 2000  # rows written at once, and between two signs of life
CHUNK = 8 << 20  # bytes copied at once
SHOWN = 500  # rows of a table of dropped rows
REFUSED = 100  # rows of a table of rejects
UNPACKED = "unpacked"  # where the files of a .zip lie until they are copied
COMING = ".coming-"  # what the folder of a data set is called until it is whole
LEFT = 3600.0  # seconds in which nothing was written to such a folder, after which it is taken for one that a killed process left


@dataclass(frozen=True)
class Brought:
    """What a person gave: the name it is kept under, the files or the one folder that are read, and of every file its place in the copy."""

    name: str
    files: Sequence[Path]
    places: Mapping[Path, Path]
    size: int


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


def ingest(path: Path | Sequence[Path], name: str, workspace: Workspace, columns: Mapping[str, str] = {}) -> Generator[Event, None, None]:
    """Copy the file into the workspace and read it there; ends with `Made("data", folder)`. A folder, a .zip or several files are
    one set.

    The folder appears under its name only when it is whole; a stop or an error leaves nothing, and what a kill leaves is taken away later.
    The original is copied, never touched.

    Raises:
        WorkbenchError: the name is taken or cannot be one, the file cannot be read, or no row of it can be learnt from.
    """
    target = workspace.data() / named(name)
    _check_free(target)
    sweep(workspace)
    folder = Path(tempfile.mkdtemp(prefix=COMING, dir=workspace.data()))
    try:
        brought = _brought(path, name, folder / UNPACKED)
        for file in brought.files:
            next(read(file, columns))  # what cannot be read is refused before it is copied
        yield Started(total=brought.size, about={"file": str(path), "name": name})
        copies, lines, digest = yield from _copy(brought, folder / kept.ORIGINAL)
        shutil.rmtree(folder / UNPACKED, ignore_errors=True)
        found = yield from _keep(copies, folder, columns, lines)
        if not found.formats:
            raise WorkbenchError(no_row(brought.name, found.first, found.rejects))
        about = kept.About(
            name=name,
            format=usual(found.formats),
            rows=found.formats.total(),
            rejects=found.rejects,
            original=brought.name,
            bytes=brought.size,
            sha256=digest,
            columns=dict(columns),
            made=datetime.now().isoformat(timespec="seconds"),
            hints=hints_of(copies, columns),
        )
        kept.write_about(folder, about)
        _check_free(target)
        if target.exists():
            target.rmdir()
        folder.rename(target)
        yield from (Noted(hint.text, "watch") for hint in about.hints)
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


def _brought(given: Path | Sequence[Path], name: str, room: Path) -> Brought:
    """What is to be copied. What lies in a folder or a .zip keeps its place in it."""
    if not isinstance(given, Path):
        twice = [one for one, times in Counter(file.name for file in given).items() if times > 1]
        if twice:
            raise WorkbenchError(f"Two of the files are called {twice[0]!r}. Rename one of them, or bring the folder that holds both.")
        own, files, places = name, sorted(given), {file: Path(name) / file.name for file in given}
    elif is_bundle(given):
        own, files = given.stem if given.is_file() else given.resolve().name, members(given, room)
        places = {file: own / file.relative_to(room if given.is_file() else given) for file in files}
    else:
        own, files, saved = given.name, [given], kind_of(given) == SAVED
        places = {file: Path(own) / file.name if saved else Path(own) for file in files_of(given)}
    return Brought(own, files, places, sum(file.stat().st_size for file in places))


def _copy(brought: Brought, original: Path) -> Generator[Progress, None, tuple[list[Path], int, str]]:
    """Copies, and returns what is to be read, and the number of line ends and the SHA-256 of the files one after another."""
    done, lines, digest = 0, 0, hashlib.sha256()
    try:
        for file, place in brought.places.items():
            to = original / place
            to.parent.mkdir(exist_ok=True, parents=True)
            with file.open("rb") as source, to.open("wb") as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    digest.update(chunk)
                    done, lines = done + len(chunk), lines + chunk.count(b"\n")
                    yield Progress(done, brought.size, "bytes copied")
    except OSError as error:
        raise WorkbenchError(
            f"{brought.name} cannot be copied into the workspace: {error.strerror}. Check the disk and the rights."
        ) from error
    return [original / brought.places.get(file, Path(brought.name)) for file in brought.files], lines, digest.hexdigest()


def _keep(copies: Sequence[Path], folder: Path, columns: Mapping[str, str], lines: int) -> Generator[Progress, None, Counted]:
    """Writes the rows and the rejects, and returns how many there are."""
    found, rows = Counted(), chain.from_iterable(read(copy, columns) for copy in copies)
    total = _length(copies[0], lines) if len(copies) == 1 else 0
    with kept.Keeper(folder) as keeper:
        while batch := list(islice(rows, BATCH)):
            keeper.write(batch)
            found.add(batch)
            taken = found.formats.total()
            here = batch[-1].line if len(copies) == 1 else taken + found.rejects  # of several files each begins anew
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
