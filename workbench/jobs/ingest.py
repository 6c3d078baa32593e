"""Bringing a file into the workspace as a job: copied, read, kept as rows and rejects, whole or not at all.

What it is not: it reads no format (`materials/formats.py`) and shows nothing (`curate.py`).
"""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Progress, Started, Table
from workbench.core.workspace import Workspace, named
from workbench.materials import kept
from workbench.materials.corpus import no_row, usual
from workbench.materials.formats import read
from workbench.materials.readers import files_of
from workbench.materials.rows import Example, Reject

BATCH = 2000  # rows written at once, and between two signs of life
CHUNK = 8 << 20  # bytes copied at once
SHOWN = 500  # rows of a table of rejects or dropped rows


def ingest(path: Path, name: str, workspace: Workspace, columns: Mapping[str, str] = {}) -> Iterator[Event]:
    """Copy the file into the workspace and read it there; ends with `Made("data", folder)`.

    The folder appears under its name only when it is whole; a stop, an error or a kill leaves nothing under that name.
    The original is copied, never touched.

    Raises:
        WorkbenchError: the name is taken or cannot be one, the file cannot be read, or no row of it can be learnt from.
    """
    target = workspace.data() / named(name)
    if target.exists() and any(target.iterdir()):
        raise WorkbenchError(f"There is a data set {name!r} already. Choose another name, or delete that one first.")
    next(read(path, columns))  # a file that cannot be read is refused before it is copied
    folder = Path(tempfile.mkdtemp(prefix=".coming-", dir=workspace.data()))
    try:
        yield Started(total=sum(file.stat().st_size for file in files_of(path)), about={"file": str(path), "name": name})
        copy = folder / kept.ORIGINAL / path.name
        lines, digest = yield from _copy(path, copy)
        formats, rejects = yield from _keep(copy, folder, columns, lines)
        if not formats:
            raise WorkbenchError(no_row(path.name, rejects))
        about = kept.About(
            name=name,
            format=usual(formats),
            rows=sum(formats.values()),
            rejects=len(rejects),
            original=path.name,
            bytes=sum(file.stat().st_size for file in files_of(copy)),
            sha256=digest,
            columns=dict(columns),
            made=datetime.now().isoformat(timespec="seconds"),
        )
        kept.write_about(folder, about)
        if target.exists():
            target.rmdir()
        folder.rename(target)
        yield rejects_table(rejects)
        yield Made("data", str(target))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def _keep(copy: Path, folder: Path, columns: Mapping[str, str], lines: int) -> Generator[Progress, None, tuple[Counter[str], list[Reject]]]:
    """Writes the rows, and returns how many there are of each format and all rejects."""
    formats, rejects = Counter[str](), list[Reject]()
    rows = read(copy, columns)
    with kept.Keeper(folder) as keeper:
        while batch := list(islice(rows, BATCH)):
            keeper.write(batch)
            formats.update(row.format for row in batch if isinstance(row, Example))
            rejects += [row for row in batch if isinstance(row, Reject)]
            yield Progress(batch[-1].line, max(lines, batch[-1].line), "lines read")
    return formats, rejects


def rejects_table(rejects: list[Reject]) -> Table:
    """The first rejects with place, reason and remedy."""
    rows = [[reject.line, reject.column, reject.reason, reject.remedy, reject.excerpt] for reject in rejects[:SHOWN]]
    return Table("rejects", ["line", "column", "reason", "what to do", "begins with"], rows)
