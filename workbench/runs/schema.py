"""The tables of the runs database, as numbered steps from an empty file to today's.

A step that has been released is never edited; a change is a new function at the end of `MIGRATIONS`. Names no
database engine: it is given a function that runs a statement. `wall` is a time of day in UTC (`at` is a reserved word).
"""

from collections.abc import Callable
from typing import Any

from workbench.core.errors import WorkbenchError

Ask = Callable[..., list[tuple[Any, ...]]]
"""`ask(sql, values)` runs one statement and gives all its rows."""


def _first(ask: Ask) -> None:
    """Runs, their numbers in long form, what was said, tables, artifacts, notes.

    `seq` counts what was measured and said within a run and never goes back: it is the cursor of live readers. `ends`
    is JSON: name → [first, last]. `reset_seq` is the cursor below which a reader holds points that have been replaced.
    """
    ask("CREATE TABLE last_number (number INTEGER)")
    ask("INSERT INTO last_number VALUES (0)")
    ask(
        "CREATE TABLE runs (number INTEGER, name VARCHAR, kind VARCHAR, status VARCHAR, step BIGINT, total BIGINT, unit VARCHAR, "
        "spec VARCHAR, message VARCHAR, traceback VARCHAR, created TIMESTAMP, started TIMESTAMP, ended TIMESTAMP, "
        "seq BIGINT, reset_seq BIGINT, ends VARCHAR)"
    )
    ask("CREATE TABLE metrics (run INTEGER, seq BIGINT, name VARCHAR, step BIGINT, value DOUBLE, wall TIMESTAMP)")
    ask(
        "CREATE TABLE said (run INTEGER, seq BIGINT, step BIGINT, speaker VARCHAR, prompt VARCHAR, answer VARCHAR, "
        "tokens VARCHAR, wall TIMESTAMP)"
    )
    ask("CREATE TABLE tables (run INTEGER, name VARCHAR, head VARCHAR, body VARCHAR, wall TIMESTAMP)")
    ask("CREATE TABLE made (run INTEGER, what VARCHAR, path VARCHAR, step BIGINT, wall TIMESTAMP)")
    ask("CREATE TABLE notes (run INTEGER, level VARCHAR, text VARCHAR, wall TIMESTAMP)")


def _second(ask: Ask) -> None:
    """A note may speak of one step, which the curve then marks; −1 speaks of none."""
    ask("ALTER TABLE notes ADD COLUMN step BIGINT DEFAULT -1")


def _third(ask: Ask) -> None:
    """What people voted of answers without names. `models` (reference → name) and `decoder` are JSON; the run may be gone."""
    ask(
        "CREATE TABLE votes (wall TIMESTAMP, run INTEGER, prompt VARCHAR, models VARCHAR, outcome VARCHAR, winner VARCHAR, "
        "seed BIGINT, decoder VARCHAR)"
    )


MIGRATIONS: tuple[Callable[[Ask], None], ...] = (_first, _second, _third)


def migrate(ask: Ask) -> None:
    """Bring the database up to date, each step in a transaction of its own; a database from the future is refused."""
    ask("CREATE TABLE IF NOT EXISTS version (number INTEGER)")
    found = ask("SELECT coalesce(max(number), 0) FROM version")[0][0]
    if found > len(MIGRATIONS):
        raise WorkbenchError(
            f"The database was written by a newer workbench (version {found} of its tables; this one knows {len(MIGRATIONS)}). "
            "Update the workbench, or choose another folder with --home DIR."
        )
    for number, step in enumerate(MIGRATIONS[found:], start=found + 1):
        ask("BEGIN")
        step(ask)
        ask("INSERT INTO version VALUES (?)", [number])
        ask("COMMIT")
