"""What is read, in SQL: runs as they stand, what they said and made. Names no engine: `ask(sql, values)` gives all rows."""

import json
from datetime import UTC, datetime
from typing import Any

from workbench.core.events import Made, Noted, Said, Table
from workbench.runs.records import Run, number_of, unknown
from workbench.runs.schema import Ask

RUN = "SELECT number, name, kind, status, step, total, unit, spec, message, traceback, created, started, ended, ends FROM runs"


def runs(ask: Ask, kind: str | None) -> list[Run]:
    """All runs (of a kind), newest first."""
    return [_run(row) for row in ask(f"{RUN} WHERE $kind IS NULL OR kind = $kind ORDER BY number DESC", {"kind": kind})]


def run(ask: Ask, run_id: str) -> Run:
    found = ask(f"{RUN} WHERE number = ?", [number_of(run_id)])
    if not found:
        raise unknown(run_id)
    return _run(found[0])


def cursor(ask: Ask, run_id: str) -> tuple[list[str], int, int]:
    """The names measured so far, where the run's cursor stands, and below which cursor a reader has to begin anew."""
    found = ask("SELECT ends, seq, reset_seq FROM runs WHERE number = ?", [number_of(run_id)])
    if not found:
        raise unknown(run_id)
    ends, seq, reset_seq = found[0]
    return list(json.loads(ends)), seq, reset_seq


def said(ask: Ask, number: int) -> list[Said]:
    rows = ask("SELECT step, speaker, prompt, answer, tokens FROM said WHERE run = ? ORDER BY step, seq", [number])
    return [Said(step, speaker, prompt, answer, json.loads(tokens)) for step, speaker, prompt, answer, tokens in rows]


def tables(ask: Ask, number: int) -> list[Table]:
    rows = ask("SELECT name, head, body FROM tables WHERE run = ? ORDER BY wall", [number])
    return [Table(name, json.loads(head), json.loads(body)) for name, head, body in rows]


def made(ask: Ask, number: int) -> list[Made]:
    return [Made(*row) for row in ask("SELECT what, path, step FROM made WHERE run = ? ORDER BY wall", [number])]


def notes(ask: Ask, number: int) -> list[Noted]:
    return [Noted(*row) for row in ask("SELECT text, level, step FROM notes WHERE run = ? ORDER BY wall", [number])]


def _run(row: tuple[Any, ...]) -> Run:
    number, name, kind, status, step, total, unit, spec, message, traceback, created, started, ended, ends = row
    return Run(
        id=f"{number:04d}",
        name=name,
        kind=kind,
        status=status,
        step=step,
        total=total,
        unit=unit,
        spec=json.loads(spec),
        message=message,
        traceback=traceback,
        created=created.replace(tzinfo=UTC),
        started=_in_utc(started),
        ended=_in_utc(ended),
        metrics={metric: (first, last) for metric, (first, last) in json.loads(ends).items()},
    )


def _in_utc(wall: datetime | None) -> datetime | None:
    return wall.replace(tzinfo=UTC) if wall else None
