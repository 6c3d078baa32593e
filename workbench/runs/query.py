"""One statement of a person over all runs: read, answered from a copy of what it names, bounded in time, memory and rows.

It never meets the database. What it names of `views.py` is copied, all of one moment, into a database of its own in memory that reaches no
file, no network and no setting (`store.sealed`); so a run that trains meanwhile writes on, and nothing that is asked can change or lose
anything. The kind of statement is looked at for a plain sentence's sake; what keeps is the seal, for `read_csv('/etc/passwd')` is a SELECT.

What it is not: safe from a single function that takes minutes or gigabytes, such as repeat('x', 3000000000): DuckDB hears an interrupt and
counts memory between batches of rows, and not within a function [M]. Tag: [M] measured on DuckDB 2.0.
"""

import csv
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.runs.store import FAILURES, Cursor, Store, sealed
from workbench.runs.views import MOST, VIEWS

SECONDS = 10.0
LONG = 60.0  # for an answer that goes to a file or a terminal
EXPORT = 1_000_000  # rows that go to a file
LONGEST = 20_000  # characters of a statement
BATCH = 2_048  # rows fetched at once
TICK = 0.05  # seconds between two interrupts: one that comes between two steps of the work is lost
READING = ("SELECT", "EXPLAIN")
Row = tuple[Any, ...]


class QueryError(WorkbenchError):
    """`says`: what is wrong and what to do. `line` and `mark`: a line of the statement, and `^` below the place; both may be empty."""

    def __init__(self, says: str, line: str = "", mark: str = ""):
        self.says, self.line, self.mark = says, line, mark
        super().__init__(f"{says}\n\n  {line}\n  {mark}" if line else says)


@dataclass(frozen=True)
class Heading:
    """A column of an answer; `kind` is DuckDB's type."""

    name: str
    kind: str


@dataclass(frozen=True)
class Answer:
    """`more`: there are further rows than these."""

    columns: list[Heading]
    rows: list[Row]
    more: bool
    seconds: float


class Question:
    """One statement under way. `stop` may be called from any thread, at any time."""

    def __init__(self, statement: str, seconds: float = SECONDS):
        self._statement, self._seconds = statement, seconds
        self._stopped = self._late = False
        self._hurry, self._over = threading.Event(), threading.Event()

    def stop(self) -> None:
        self._stopped = True
        self._hurry.set()

    def answer(self, store: Store, most: int) -> Answer:
        """At most so many rows, all held in memory."""
        begun = time.perf_counter()
        with self.asked(store) as (columns, rows):
            found = list(islice(rows, most + 1))
        return Answer(columns, found[:most], len(found) > most, time.perf_counter() - begun)

    @contextmanager
    def asked(self, store: Store) -> Iterator[tuple[list[Heading], Iterator[Row]]]:
        """The columns and the rows, which are worked out as they are taken. What goes wrong in the block too is a `QueryError`."""
        with ExitStack() as undo:
            connection = sealed()
            undo.callback(connection.close)
            watch = threading.Thread(target=self._watch, args=(connection,), name="query-watch", daemon=True)
            watch.start()
            undo.callback(watch.join)
            undo.callback(self._end)
            try:
                check(connection, self._statement)
                self._fill(connection, store)
                self._in_time()
                connection.execute(self._statement)
                columns = [Heading(str(name), str(kind)) for name, kind, *_ in connection.description]
                yield _apart(columns), _rows(connection)
            except (*FAILURES, OverflowError, MemoryError) as error:
                self._in_time()
                raise told(str(error)) from error

    def _fill(self, connection: Cursor, store: Store) -> None:
        """Bring in what the statement names; the other tables are there without rows, so that they are listed."""
        wanted = named(self._statement)
        frames = store.frames({name: VIEWS[name].question() for name in wanted})
        for name, view in VIEWS.items():
            if name not in frames:
                connection.execute(view.empty())
                continue
            if len(frames[name]) > MOST:
                raise QueryError(
                    f"There are more than {MOST:,} {name}, which is more than one statement may read. measures has the first, last, lowest "
                    "and highest of each line; fewer old runs make room too."
                )
            connection.register(name, frames[name])
        connection.execute("BEGIN TRANSACTION READ ONLY")

    def _watch(self, connection: Cursor) -> None:
        """Wait for the end, for somebody who stops it, or until it is late; then interrupt until it has ended."""
        self._late = not self._hurry.wait(self._seconds)
        while not self._over.wait(TICK):
            connection.interrupt()

    def _end(self) -> None:
        self._over.set()
        self._hurry.set()

    def _in_time(self) -> None:
        if self._stopped:
            raise QueryError("Stopped. The statement is as it was.")
        if self._late:
            raise QueryError(
                f"This took longer than {self._seconds:.0f} seconds and was stopped. Ask for fewer rows first: WHERE run = '0042', or "
                "WHERE name = 'loss'. A join without a condition is often the cause."
            )


def named(statement: str) -> list[str]:
    """The tables that occur in a statement as words; all where a text may name one (`query('…')`). One too many only costs time."""
    words = set(re.findall(r"[a-z_]+", statement.lower()))
    return [name for name in VIEWS if name in words or words & {"query", "query_table"}]


def check(connection: Cursor, statement: str) -> None:
    """Refuse what is not exactly one statement that reads."""
    if len(statement) > LONGEST:
        raise QueryError(f"The statement has {len(statement):,} characters; at most {LONGEST:,} are read. Make it shorter.")
    found = connection.extract_statements(statement)
    if not found:
        raise QueryError("There is no statement yet. Write one, for example: SELECT * FROM runs")
    if len(found) > 1:
        raise QueryError(f"These are {len(found)} statements, and one is answered at a time. Keep one of them.")
    kind = found[0].type.name
    if kind == "MULTI":
        raise QueryError("PIVOT has to say which columns it makes. Write them: PIVOT points ON name IN ('loss', 'lr') USING avg(value)")
    if kind not in READING:
        raise QueryError(f"This statement does more than read ({kind}). Only reading is possible here: begin with SELECT or FROM.")
    if found[0].named_parameters:
        raise QueryError("The statement has an open place (? or $name), and nothing to fill it. Write the value itself.")


INSTEAD = (
    (
        r"^Permission Error",
        f"No file and no address can be read from here, only the runs' own tables: {', '.join(VIEWS)}.",
    ),
    (r"Out of Memory Error|^$", "This needs more memory than a statement may take. Ask for fewer rows or columns, or group them."),
    (r"too large to convert", "A value of the answer is too large to be shown. Make it text: value::VARCHAR"),
    (r"Max expression depth", "The statement is nested too deeply. Make it simpler."),
    (r"extension", "This needs an extension of DuckDB, and none can be loaded here. Leave it out."),
    (r"read-only|is not an table", "Only reading is possible here. Ask with SELECT."),
)
"""What DuckDB says, and what a person is told instead, where its own advice leads nowhere here."""


def told(text: str) -> QueryError:
    """What DuckDB says of a mistake, without its own heading, with the line and the place that it points to."""
    said, _, place = text.partition("\n\nLINE ")
    number, _, excerpt = place.partition(": ")
    line, _, mark = excerpt.partition("\n")
    mark = mark[len(f"LINE {number}: ") :].split("\n")[0].rstrip()
    says = next((instead for sign, instead in INSTEAD if re.search(sign, said)), None) or plain(said)
    return QueryError(says, line if mark else "", mark)


def plain(said: str) -> str:
    """DuckDB's sentences in one line; what kind of error it is says less than they do."""
    said = re.sub(r"^[A-Z][\w ]*? Error: ", "", said)
    sentences = [" ".join(line.split()) for line in said.splitlines()]
    whole = " ".join(line if line.endswith((".", "!", "?", ":")) else f"{line}." for line in sentences if line)
    return whole[:1].upper() + whole[1:]


def csv_lines(store: Store, statement: str) -> Iterator[str]:
    """An answer as CSV, a line for each row, at most `EXPORT`. The first is given only when the statement has been understood and has begun
    to answer, so that a mistake is told before a file is begun."""
    with Question(statement, LONG).asked(store) as (columns, rows):
        first = list(islice(rows, 1))
        yield _csv([column.name for column in columns])
        for row in islice(chain(first, rows), EXPORT):
            yield _csv(map(flat, row))


def _csv(values: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def flat(value: Any) -> int | float | str | None:
    """A value of an answer as a number, as text, or as nothing; lists and records as JSON, bytes in hexadecimal."""
    match value:
        case bool():
            return str(value).lower()
        case None | int() | float() | str():
            return value
        case Decimal():
            return float(value)
        case bytes():
            return value.hex()
        case list() | dict():
            return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def _apart(columns: list[Heading]) -> list[Heading]:
    """Columns of the same name told apart by a number."""
    apart: dict[str, str] = {}
    for column in columns:
        name, count = column.name, 1
        while name in apart:
            count += 1
            name = f"{column.name} {count}"
        apart[name] = column.kind
    return [Heading(name, kind) for name, kind in apart.items()]


def _rows(connection: Cursor) -> Iterator[Row]:
    while batch := connection.fetchmany(BATCH):
        yield from batch
