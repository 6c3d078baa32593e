"""Every run on record: the only door to DuckDB. One thread writes whole frames, readers borrow a cursor each.

Knows no job and draws nothing. Rules measured on DuckDB 2.0: a cursor is never used by two threads at once (two readers on one
connection silently lose rows), every result is fetched whole, rows are never written one by one, and one process alone may hold
the file. SQL lives beside it, without the engine: `schema.py`, `recording.py`, `reading.py`, `curves.py`.
"""

import json
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Said, Status, Table
from workbench.core.ratings import Vote
from workbench.runs import curves, reading, votes
from workbench.runs.files import copy_into, log_of, put_aside
from workbench.runs.recording import Recorder
from workbench.runs.records import Delta, Line, Run, number_of
from workbench.runs.rows import Marked, hear, plain
from workbench.runs.schema import Ask, migrate
from workbench.runs.writer import Writer

# One thread: the numbers are few, and a training run beside it wants the cores. Extensions would be fetched over the network.
SETTINGS = {"threads": "1", "memory_limit": "1GB", "autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
SEALED = ("memory_limit = '512MB'", "temp_directory = ''", "python_enable_replacements = false", "enable_external_access = false")
"""What a person's statement runs under, in this order: the last one forbids to change where it would spill."""
FAILURES = (duckdb.Error, pa.ArrowException)

Cursor = duckdb.DuckDBPyConnection


class InUse(WorkbenchError):
    """Another process holds the database; `pid` is its number, 0 where the system does not tell."""

    def __init__(self, path: Path, pid: int):
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"The workspace {path.parent} is open in another workbench ({who}), and only one at a time may write to it. "
            "Use that one, close it first, or choose another folder with --home DIR."
        )


class Store:
    """The runs of one workspace. Safe to use from any thread; `append` returns at once, what is read is what has been written.

    copy: look at a copy of the file instead, for a second process while the page holds the original; it cannot be changed.
    `warnings` holds sentences for the person: what was lost with a damaged log, a disk that cannot be written.
    """

    def __init__(self, path: Path, copy: bool = False):
        self.warnings: list[str] = []
        self._free: list[Cursor] = []
        self._lent = 0
        self._closed = False
        self._readers = threading.Condition()
        self._closing = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-") if copy else None
        self._path = copy_into(path, Path(self._folder.name)) if self._folder else path
        self._connection = self._open()
        self._writer: Writer | None = None
        with ExitStack() as undo:
            undo.callback(self._connection.close)
            self._begin(writes=not copy)
            undo.pop_all()

    def _begin(self, writes: bool) -> None:
        cursor = self._connection.cursor()
        ask = _asker(cursor)
        migrate(ask)
        self._recorder = Recorder(ask, lambda name, frame: _lend(cursor, name, frame))
        self._writing = cursor
        if writes:
            self._recorder.interrupt()
            self._writer = Writer(self._recorder.write, FAILURES, self.warnings.append, self._checkpoint)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Opening and closing.

    def _open(self) -> Cursor:
        try:
            return duckdb.connect(self._path, config=SETTINGS)
        except duckdb.Error as error:
            if "Could not set lock" in str(error):
                found = re.search(r"PID (\d+)", str(error))
                raise InUse(self._path, int(found[1]) if found else 0) from error
            if not log_of(self._path).exists() or "not a valid DuckDB" in str(error):
                raise _unreadable(self._path, error) from error
        return self._open_without_log()

    def _open_without_log(self) -> Cursor:
        kept = put_aside(self._path)
        try:
            connection = duckdb.connect(self._path, config=SETTINGS)
        except duckdb.Error as error:
            raise _unreadable(self._path, error) from error
        self.warnings.append(
            "The database's log was damaged, so what was measured after its last checkpoint is missing from the lists. The folders "
            f"of the runs are untouched, and both damaged files are kept: look for {kept.name} beside the database."
        )
        return connection

    def close(self) -> None:
        """Write what is left, fold the log into the file and let go of it. Calling it again does nothing."""
        with self._closing:
            if self._closed:
                return
            if self._writer:
                self._writer.close()
            with self._readers:
                self._closed = True
                self._readers.wait_for(lambda: not self._lent)
            if self._writer:
                self._checkpoint()
            for cursor in (*self._free, self._writing, self._connection):
                cursor.close()
            if self._folder:
                self._folder.cleanup()

    def _checkpoint(self) -> None:
        try:
            self._writing.execute("CHECKPOINT").fetchall()
        except duckdb.Error as error:  # the log still holds everything, and is folded in next time
            self.warnings.append(f"The database's log could not be folded into its file ({error}). Nothing is lost.")

    # Writing.

    def create(self, kind: str, name: str, spec: dict[str, Any], above: int = 0) -> str:
        """A new queued run. Its id is never given twice, and its number is greater than `above`."""
        text = plain(json.dumps(spec, default=str))
        return self._writes().order(lambda: self._recorder.create(kind, name, text, above))

    def append(self, run: str, *events: Event) -> None:
        """Queue events of a run and return; they are written within a quarter of a second."""
        number = number_of(run)
        self._writes().put([hear(number, event) for event in events])

    def mark(self, run: str, status: Status) -> None:
        """What the runner does with a run. "queued" begins a new try: what it says again takes the place of what was said."""
        self._writes().put([hear(number_of(run), Marked(status))])

    def flush(self) -> None:
        """Wait until everything appended so far is written; `WorkbenchError` where it cannot be (it is kept and tried again)."""
        self._writes().order(lambda: None)

    def rename(self, run: str, name: str) -> None:
        self._writes().order(lambda: self._recorder.rename(run, name))

    def delete(self, run: str) -> None:
        """Forget a run. One that is queued, running or paused is refused. Its folder is not touched, and votes on its answers stay."""
        self._writes().order(lambda: self._recorder.delete(run))

    def vote(self, vote: Vote) -> None:
        """Put a vote on record; it is written when this returns."""
        self._writes().order(lambda: self._recorder.vote(vote))

    def _writes(self) -> Writer:
        if self._writer is None:
            raise WorkbenchError("This is a copy of the database to look at, so nothing can be changed in it.")
        return self._writer

    # Reading.

    @contextmanager
    def _reading(self) -> Iterator[Ask]:
        with self._borrowed() as cursor:
            yield _asker(cursor)

    @contextmanager
    def _borrowed(self) -> Iterator[Cursor]:
        """A cursor of one's own and one unchanging view of the database, for as long as the block lasts."""
        with self._readers:
            if self._closed:
                raise WorkbenchError("The database is closed, because the workbench is shutting down. Start it again to go on.")
            cursor = self._free.pop() if self._free else self._connection.cursor()
            self._lent += 1
        try:
            cursor.begin()
            yield cursor
        except duckdb.Error as error:
            raise WorkbenchError(f"The database could not be read: {' '.join(str(error).split())}.") from error
        finally:
            self._give_back(cursor)

    def _give_back(self, cursor: Cursor) -> None:
        try:
            cursor.rollback()
        except duckdb.Error:  # it failed and cannot be trusted with another question
            cursor.close()
            cursor = self._connection.cursor()
        with self._readers:
            self._free.append(cursor)
            self._lent -= 1
            self._readers.notify_all()

    def runs(self, kind: str | None = None) -> list[Run]:
        """All runs, newest first."""
        with self._reading() as ask:
            return reading.runs(ask, kind)

    def run(self, run: str) -> Run:
        with self._reading() as ask:
            return reading.run(ask, run)

    def names(self, run: str) -> list[str]:
        """The names of what was measured, in the order in which they first appeared."""
        with self._reading() as ask:
            return reading.cursor(ask, run)[0]

    def since(self, run: str, cursor: int) -> Delta:
        """What was measured after `cursor`; 0 asks for the whole picture, decimated. Go on with the delta's own cursor."""
        with self._reading() as ask:
            return curves.since(ask, number_of(run), cursor, *reading.cursor(ask, run))

    def series(self, run: str, name: str, points: int = curves.POINTS, first: int = 0, last: int = 2**62) -> Line:
        """One line between two steps (inclusive), decimated so that every extreme, NaN and infinity stays in sight."""
        with self._reading() as ask:
            return curves.series(ask, number_of(run), [name], points, first, last)[name]

    def lines(self, run: str, names: Sequence[str], first: int = 0) -> dict[str, Line]:
        """Several lines from step `first` on, as `series` gives one; one question for all of them."""
        with self._reading() as ask:
            return curves.series(ask, number_of(run), names, first=first)

    def said(self, run: str) -> list[Said]:
        """Finished answers by step; of an answer that grew in front of the eyes only the whole one is kept."""
        with self._reading() as ask:
            return reading.said(ask, number_of(run))

    def tables(self, run: str) -> list[Table]:
        """The latest table of each name."""
        with self._reading() as ask:
            return reading.tables(ask, number_of(run))

    def made(self, run: str) -> list[Made]:
        """The artifacts, each path once, with the step of its latest state."""
        with self._reading() as ask:
            return reading.made(ask, number_of(run))

    def notes(self, run: str) -> list[Noted]:
        with self._reading() as ask:
            return reading.notes(ask, number_of(run))

    def votes(self) -> list[Vote]:
        """Every vote, the oldest first."""
        with self._reading() as ask:
            return votes.read(ask)

    def frames(self, questions: Mapping[str, str]) -> dict[str, pa.Table]:
        """The rows of some questions of our own as frames, all of one moment. A person's statement never comes here (`query.py`)."""
        with self._borrowed() as cursor:
            return {name: cursor.sql(question).to_arrow_table() for name, question in questions.items()}


def sealed() -> Cursor:
    """A database of its own in memory that reaches no file, no network and no variable of this program, and whose settings stay."""
    connection = duckdb.connect(":memory:", config=SETTINGS)
    for setting in ("enable_progress_bar = false", *SEALED, "lock_configuration = true"):
        connection.execute(f"SET {setting}")
    return connection


def _asker(cursor: Cursor) -> Ask:
    return lambda sql, values=None: cursor.execute(sql, values).fetchall()


def _lend(cursor: Cursor, name: str, frame: pa.Table) -> None:
    cursor.register(name, frame)


def _unreadable(path: Path, error: duckdb.Error) -> WorkbenchError:
    return WorkbenchError(
        f"The database {path} cannot be opened: {' '.join(str(error).split())}. If it is damaged, move it and {log_of(path).name} aside; "
        "the folders of the runs stay, only the lists begin anew."
    )
