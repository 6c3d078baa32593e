"""What is written, in SQL: batches of events as whole frames, new runs, renames, deletions. Called by the writing thread alone.

Names no engine: `ask(sql, values)` runs a statement, `lend(name, frame)` shows the database an Arrow frame under a name.
"""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from workbench.core.errors import WorkbenchError
from workbench.core.events import Status
from workbench.core.ratings import Vote
from workbench.runs import votes
from workbench.runs.records import LIVE, Standing, number_of, unknown
from workbench.runs.rows import FRAMES, KEYS, Batch, Heard, Past, now, plain
from workbench.runs.schema import Ask


class Recorder:
    """Everything that changes the database. What it remembers of a run it takes over only when the database has it."""

    def __init__(self, ask: Ask, lend: Callable[[str, pa.Table], None]):
        self._ask, self._lend = ask, lend
        self._pasts: dict[int, Past] = {}

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._ask("BEGIN")
        with ExitStack() as undo:
            undo.callback(self._ask, "ROLLBACK")
            yield
            undo.pop_all()
        self._ask("COMMIT")  # when this fails, the transaction is over already and nothing of it stays

    def interrupt(self) -> None:
        """At opening: nobody can be working on a run, so what says so was left by a process that died."""
        live = ", ".join(f"'{status}'" for status in LIVE)
        self._ask(f"UPDATE runs SET status = 'interrupted', ended = coalesce(ended, ?) WHERE status IN ({live})", [now()])

    def create(self, kind: str, name: str, spec: str, above: int) -> str:
        with self._transaction():
            self._ask("UPDATE last_number SET number = greatest(number, ?) + 1", [above])
            number = self._ask("SELECT number FROM last_number")[0][0]
            self._ask(
                "INSERT INTO runs (number, name, kind, status, step, total, unit, spec, message, traceback, created, seq, reset_seq, ends) "
                "VALUES (?, ?, ?, 'queued', 0, 0, 'step', ?, '', '', ?, 0, 0, '{}')",
                [number, plain(name), plain(kind), spec, now()],
            )
        return f"{number:04d}"

    def rename(self, run: str, name: str) -> None:
        self._status(run)
        self._ask("UPDATE runs SET name = ? WHERE number = ?", [plain(name), number_of(run)])

    def vote(self, vote: Vote) -> None:
        votes.write(self._ask, vote)

    def delete(self, run: str) -> None:
        if self._status(run) in LIVE:
            raise WorkbenchError(f"Run {run} is still at work. Stop it first, then delete it.")
        with self._transaction():
            for table in FRAMES:
                self._ask(f"DELETE FROM {table} WHERE run = ?", [number_of(run)])
            self._ask("DELETE FROM runs WHERE number = ?", [number_of(run)])
        self._pasts.pop(number_of(run), None)

    def write(self, items: list[Heard]) -> None:
        """One transaction with all of `items`; all or nothing. Events of a run that is gone are dropped."""
        pasts = {number: past for number in {item.number for item in items} if (past := self._past(number))}
        batch = Batch(pasts)
        for item in items:
            if item.number in pasts:
                batch.add(item)
        with self._transaction():
            for table, rows in batch.rows.items():
                if rows:
                    self._store(table, batch)
            for number, past in pasts.items():
                self._update(number, past)
        self._pasts.update(pasts)

    def _store(self, table: str, batch: Batch) -> None:
        """Insert one table's frame, after what it takes the place of has been taken away."""
        self._lend("frame", batch.frame(table))
        same = " AND ".join(f"{table}.{key} = frame.{key}" for key in KEYS.get(table, ()))
        if table in ("tables", "made"):
            self._ask(f"DELETE FROM {table} USING frame WHERE {same}")
        for number in batch.again if table in ("metrics", "said") else ():
            past = batch.pasts[number]
            self._ask(f"DELETE FROM {table} USING frame WHERE {same} AND {table}.run = ? AND {table}.seq <= ?", [number, past.before])
            past.reset_seq = past.seq
        self._ask(f"INSERT INTO {table} SELECT * FROM frame")

    def _update(self, number: int, past: Past) -> None:
        standing = past.standing
        values = {"step": standing.step, "total": standing.total, "unit": plain(standing.unit), "seq": past.seq}
        values |= {"reset_seq": past.reset_seq, "ends": json.dumps(past.ends), **past.changes}
        columns = ", ".join(f"{name} = ?" for name in values)
        self._ask(f"UPDATE runs SET {columns} WHERE number = ?", [*values.values(), number])

    def _past(self, number: int) -> Past | None:
        """A copy of what is known of the run, to be changed by one batch; None where there is no such run."""
        if number in self._pasts:
            past = copy.deepcopy(self._pasts[number])
            past.changes = {}
            return past
        found = self._ask("SELECT step, total, unit, seq, reset_seq, ends FROM runs WHERE number = ?", [number])
        if not found:
            return None
        step, total, unit, seq, reset_seq, ends = found[0]
        top = self._ask("SELECT coalesce(max(step), -1) FROM metrics WHERE run = ?", [number])[0][0]
        said = self._ask("SELECT coalesce(max(step), -1) FROM said WHERE run = ?", [number])[0][0]
        standing = Standing(step, total, unit)
        return Past(standing, seq, reset_seq, json.loads(ends), before=seq, top=max(top, said), high=max(top, said))

    def _status(self, run: str) -> Status:
        found = self._ask("SELECT status FROM runs WHERE number = ?", [number_of(run)])
        if not found:
            raise unknown(run)
        return found[0][0]
