"""The database as files: a copy to look at while somebody else writes, and damaged files kept aside. Knows paths only."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from workbench.core.errors import WorkbenchError

TRIES = 20


def log_of(path: Path) -> Path:
    """The write-ahead log that lies beside an open (or killed) database."""
    return path.with_name(path.name + ".wal")


def copy_into(path: Path, folder: Path) -> Path:
    """A copy of the database and its log, taken at a moment when neither was being folded into the other.

    Never call it for a database that this very process has open: closing the copied file would drop the process's lock.
    """
    target = folder / path.name
    for _ in range(TRIES):
        before = _state(path)
        for source in (log_of(path), path):
            if source.exists():
                shutil.copyfile(source, target.with_name(source.name))
        if _state(path) == before:
            return target
        log_of(target).unlink(missing_ok=True)
    raise WorkbenchError(f"The database {path} changed all the time while it was being copied. Try again in a moment.")


def _state(path: Path) -> tuple[int, int, bool] | None:
    """Changes when the log is folded into the database; a log that merely grows is no matter, its end may be missing."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size, log_of(path).exists()


def put_aside(path: Path) -> Path:
    """Keep copies of a database and its unreadable log as `*.damaged-<time>` and take the log away; the kept log's path."""
    ending = f".damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    shutil.copyfile(path, path.with_name(path.name + ending))
    log = log_of(path)
    return log.rename(log.with_name(log.name + ending))
