"""Data sets of several files: a folder, or a .zip, as the files in it that can be read, in the order of their names.

What it is: which files belong to a set. Where there are tables or JSON, the texts beside them (a README, a licence) are about the rows and
no rows. What it is not: it reads none of them (`readers.py`). A folder that `datasets` saved is one set already.
"""

import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from workbench.core.errors import WorkbenchError
from workbench.materials.formats import hints
from workbench.materials.guessing import Hint
from workbench.materials.readers import records
from workbench.materials.records import FOLD, FULL, KINDS, PROSE, SAVED_PARTS, SAVED_SET, extension

ZIP = ".zip"
ABOUT_ROWS = ("dataset_info.json", "dataset_infos.json", "requirements.txt")  # in the folders of other programs; no rows
MOST = 10_000  # files of one set


def is_bundle(path: Path) -> bool:
    """Whether it is a folder or a .zip of data files."""
    if path.is_dir():
        return not (path / SAVED_SET).exists() and not (path / SAVED_PARTS).exists()
    return path.is_file() and path.suffix.lower() == ZIP


def members(path: Path, room: Path) -> list[Path]:
    """The data files of a folder or a .zip, which is unpacked into `room`.

    Raises:
        WorkbenchError: there is none, they are too many, or the archive is damaged, locked, or unpacks to more than any text does.
    """
    folder = path
    if path.is_file():
        _unpack(path, room)
        folder = room
    inside = sorted(file for file in folder.rglob("*") if file.is_file() and _readable(PurePosixPath(file.relative_to(folder))))
    files = [file for file in inside if next(records(file), None) is not None] if len(inside) <= MOST else inside
    rows = [file for file in files if KINDS[extension(file)] != PROSE]
    if len(files) > MOST:
        raise _too_many(path, len(files))
    if not files:
        readable = f"Readable are {', '.join(KINDS)}, in one folder with its subfolders."
        raise WorkbenchError(f"{path.name} holds no file that can be read here. {readable}")
    return rows or files


def _too_many(path: Path, count: int) -> WorkbenchError:
    return WorkbenchError(
        f"{path.name} holds {count:,} files, and a set is read from at most {MOST:,}. Put them together into fewer files."
    )


def hints_of(files: Sequence[Path], columns: Mapping[str, str]) -> list[Hint]:
    """What to know of how the files are read; what does not hold for all of them names its file, and cannot be changed for all."""
    found = [hints(file, columns) for file in files]
    if all(own == found[0] for own in found):
        return found[0]
    return [Hint(f"{file.name}: {hint.text}") for file, own in zip(files, found, strict=True) for hint in own]


def _readable(inside: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in inside.parts)
    return not hidden and inside.name not in ABOUT_ROWS and extension(Path(inside.name)) in KINDS


def _unpack(path: Path, room: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = list(_wanted(archive))
            if len(wanted) > MOST:
                raise _too_many(path, len(wanted))
            if sum(one.file_size for one in wanted) > FULL + FOLD * path.stat().st_size:
                raise WorkbenchError(f"{path.name} unpacks to more than {FOLD} times its size, as no text does. Unpack it yourself.")
            for one in wanted:
                to = room / one.filename
                to.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(one) as source, to.open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise WorkbenchError(f"{path.name} cannot be unpacked ({error}). Fetch or pack it again, without a password.") from error


def _wanted(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The data files of the archive; none that would come to lie outside of where it is unpacked."""
    for one in archive.infolist():
        inside = PurePosixPath(one.filename)
        if not one.is_dir() and not inside.is_absolute() and ".." not in inside.parts and _readable(inside):
            yield one
