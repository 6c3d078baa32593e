"""What the command line prints: progress lines, tables and runs as plain text, and the same as JSON. Opens nothing, starts nothing."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

import yaml

from workbench.core.events import Event, Made, Noted, Said, Table
from workbench.core.method import Method, knobs_of
from workbench.runs.live import Live
from workbench.runs.records import Run

BAR = 20
SHORT = {"loss": "loss", "step_ratio": "r"}  # the numbers of the progress line, and what they are called there


def number(value: float) -> str:
    """Three significant digits, as everywhere in the workbench."""
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def progress(line: Live) -> str:
    """`train 0003 ▓▓▓▓░░░░ 40 %  step 40/100 · loss 1.42 · r 0.38 · 1 min 12 s left`."""
    if line.status == "queued":
        return f"{line.kind} {line.id} waits for its turn"
    share = min(1.0, line.step / line.total) if line.total else 0.0
    full = int(share * BAR)
    facts = [f"{line.unit} {line.step:,}/{line.total:,}" if line.total else line.unit]
    facts += [f"{short} {number(line.latest[name])}" for name, short in SHORT.items() if name in line.latest]
    if line.seconds_left is not None:
        facts.append(f"{duration(line.seconds_left)} left")
    return f"{line.kind} {line.id} {'▓' * full}{'░' * (BAR - full)} {share:4.0%}  {' · '.join(facts)}"


class ProgressLine:
    """One line that renews itself on a terminal; elsewhere a line at each tenth of the way, so that a log stays short."""

    def __init__(self) -> None:
        self._out: TextIO = sys.stderr
        self._terminal = self._out.isatty()
        self._shown: object = None
        self._open = False

    def show(self, line: Live) -> None:
        if self._terminal:
            self._out.write(f"\r\x1b[2K{progress(line)}")
            self._out.flush()
            self._open = True
            return
        place = line.status, line.unit, 10 * line.step // line.total if line.total else 0
        if place != self._shown:
            self._shown = place
            print(progress(line), file=self._out, flush=True)

    def say(self, text: str) -> None:
        """A sentence of its own, above the line."""
        self.end()
        print(text, file=self._out, flush=True)

    def end(self) -> None:
        if self._open:
            self._out.write("\n")
        self._open = False


def grid(rows: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    """Rows below a head in columns as wide as they need."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def cell(value: object) -> str:
    """A table's value as text: numbers short, nothing as a dash."""
    if value is None:
        return "–"
    return number(value) if isinstance(value, float) else str(value)


def table(found: Table) -> str:
    """A finding with its name; what holds or does not is yes or no."""
    rows = [[cell(value) if not isinstance(value, bool) else "yes" if value else "no" for value in row] for row in found.rows]
    return f"{found.name}\n{grid(rows, found.columns)}"


def runs_list(runs: Sequence[Run]) -> str:
    if not runs:
        return "No runs yet. Start one with: python -m workbench train SPEC.yaml"
    rows = [
        [run.id, run.kind, run.status, f"{run.step:,}/{run.total:,}" if run.total else "–", first_to_last(run, "loss"), run.name]
        for run in runs
    ]
    return grid(rows, ["run", "kind", "status", "done", "loss", "name"])


def first_to_last(run: Run, name: str) -> str:
    return " → ".join(number(value) for value in run.metrics[name]) if name in run.metrics else "–"


def run_in_brief(run: Run, made: Sequence[Made]) -> str:
    """How a run ended, its numbers first → last, and what it made."""
    lines = [f"run {run.id} · {run.kind} · {run.status}" + (f" · {run.unit} {run.step:,} of {run.total:,}" if run.total else "")]
    if run.message:
        lines.append(run.message)
    if run.metrics:
        lines += ["", grid([[name, first_to_last(run, name)] for name in run.metrics], ["measured", "first → last"])]
    if made:
        lines += ["", grid([[thing.what, thing.step or "–", thing.path] for thing in made], ["made", "step", "where"])]
    return "\n".join(lines)


def run_in_full(run: Run, events: Sequence[Event], speed: Sequence[str] = ()) -> str:
    """Everything on record: how it ended, its speed, the spec, what was said, tables, notes, and the traceback of a failure."""
    parts = [run_in_brief(run, [event for event in events if isinstance(event, Made)])]
    parts += ["\n".join(["speed", *speed])] if speed else []
    parts.append("spec\n" + yaml.safe_dump(run.spec, sort_keys=False, allow_unicode=True, width=100).rstrip())
    parts += [f"step {event.step} · {event.speaker}\n> {event.prompt}\n{event.answer}" for event in events if isinstance(event, Said)]
    parts += [table(event) for event in events if isinstance(event, Table)]
    if notes := [f"[{event.level}] {event.text}" for event in events if isinstance(event, Noted)]:
        parts.append("\n".join(["notes", *notes]))
    if run.traceback:
        parts.append(f"traceback\n{run.traceback.rstrip()}")
    return "\n\n".join(parts)


def run_as_values(run: Run) -> dict[str, Any]:
    """A run fit for JSON, as `runs --json` prints it."""
    return {
        "id": run.id,
        "name": run.name,
        "kind": run.kind,
        "status": run.status,
        "step": run.step,
        "total": run.total,
        "message": run.message,
        "created": run.created.isoformat(),
        "spec": run.spec,
        "metrics": {name: {"first": first, "last": last} for name, (first, last) in run.metrics.items()},
    }


def method_as_values(method: type[Method]) -> dict[str, Any]:
    """A method fit for JSON, as `methods --json` prints it."""
    return {
        "name": method.name,
        "title": method.title(),
        "shelf": method.shelf,
        "paper": method.paper,
        "doc": method.doc(),
        "knobs": [asdict(knob) for knob in knobs_of(method)],
    }


def as_json(value: Any) -> str:
    """JSON that every reader takes: what is not a finite number becomes the text "nan", "inf" or "-inf"."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
