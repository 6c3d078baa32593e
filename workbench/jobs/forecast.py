"""What more rows would bring: runs that differ only in how many rows they learn from, the law their losses follow, and the loss to come.

After "Selecting Large Language Model to Fine-tune via Rectified Scaling Law" (arXiv:2402.02314): four small runs of each model tell which
will be best with all rows; the laws are `materials/scaling.py`'s. What it is not: it starts no run, opens no database (it is given one
to read), and promises nothing about quality that the validation loss does not show.
Runs are those whose spec is the same but for `data.most_rows`, which leaves the validation rows as they are, and for what steps and
readings cost: `FREE`. A loss per token compares models only where they share a tokenizer. Tags: [O] our own choice.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.core.events import Table
from workbench.core.words import count, number
from workbench.jobs.records import Records
from workbench.materials.scaling import FEWEST, Law, Line, accept_then_stop, fit

ROWS, LEARNT, HELD = "rows", "learnt from", "held back for the validation loss"
LOSS = "validation_loss"
FREE = ("name", "model", "steps", "evaluate_every", "sample_every", "checkpoint_every", "prompts", "stop")
"""What may differ between the runs of a curve: fewer rows need fewer steps, and the lowest validation loss of a run counts [O]."""
HARDLY = 0.02  # share of the loss that is not worth a word [O]
AHEAD = 4  # times the most rows seen, where nobody asks for another number


@dataclass(frozen=True)
class Trained:
    """A finished run: how many rows it learnt from, and its lowest validation loss."""

    run: str
    spec: Mapping[str, Any]
    rows: int
    loss: float

    @property
    def model(self) -> str:
        return str(self.spec["model"])

    @property
    def task(self) -> str:
        """What runs of one curve, and curves that may be compared, have in common."""
        data = {name: value for name, value in self.spec["data"].items() if name != "most_rows"}
        rest = {name: value for name, value in self.spec.items() if name not in (*FREE, "data")}
        return json.dumps([data, rest], sort_keys=True, default=str)


@dataclass(frozen=True)
class Curve:
    """Runs of one model by their rows, one for each number of them; the law through them, the same without what the model knew, and the
    line that ranks models."""

    model: str
    data: str
    task: str
    points: list[Trained]
    law: Law
    plain: Law
    line: Line

    @property
    def most(self) -> int:
        return self.points[-1].rows


# Reading.


def rows_table(learnt: int, held: int) -> Table:
    """What a training run leaves on record, so that it can be found here."""
    return Table(ROWS, ["what", "rows"], [[LEARNT, learnt], [HELD, held]])


def trained(records: Records) -> list[Trained]:
    """Every finished training run whose rows and validation loss are on record, the oldest first."""
    found = []
    for run in reversed(records.runs("train")):
        if run.status != "finished" or LOSS not in run.metrics:
            continue
        learnt = [row[1] for table in records.tables(run.id) if table.name == ROWS for row in table.rows if row[0] == LEARNT]
        losses = [loss for loss in records.series(run.id, LOSS)[1] if 0 < loss < math.inf]
        if learnt and losses:
            found.append(Trained(run.id, run.spec, int(learnt[0]), min(losses)))
    return found


# Forecasting.


def curves(runs: Sequence[Trained], model: str = "") -> list[Curve]:
    """A curve for each model and task with enough different numbers of rows, in the order of the first runs.

    Raises:
        WorkbenchError: there is none; it says how near the nearest is.
    """
    groups = {key: points for key, points in _grouped(runs).items() if model in ("", key[1])}
    whole = {key: points for key, points in groups.items() if len(points) >= FEWEST}
    if not whole:
        raise WorkbenchError(_too_few(groups))
    return [_curve(points) for points in whole.values()]


def _grouped(runs: Sequence[Trained]) -> dict[tuple[str, str], list[Trained]]:
    """The best run for each number of rows, by task and model."""
    best = defaultdict[tuple[str, str], dict[int, Trained]](dict)
    for one in runs:
        there = best[one.task, one.model]
        if one.rows not in there or one.loss < there[one.rows].loss:
            there[one.rows] = one
    return {key: sorted(there.values(), key=lambda one: one.rows) for key, there in best.items()}


def _too_few(groups: Mapping[tuple[str, str], Sequence[Trained]]) -> str:
    wants = (
        f"A forecast needs {FEWEST} finished runs of one model that differ only in how many rows they learn from, each with a validation "
        f"loss. Start them with data.most_rows at, for example, 100, 200, 400 and 800."
    )
    nearest = max(groups.values(), key=len, default=[])
    if not nearest:
        return f"There is no finished training run yet that says how many rows it learnt from. {wants}"
    rows = ", ".join(f"{one.rows:,}" for one in nearest)
    return f"The nearest are {count(len(nearest), 'run')} of {nearest[0].model} on {_data(nearest[0])}, with {rows} rows. {wants}"


def _curve(points: list[Trained]) -> Curve:
    sizes, losses = [float(one.rows) for one in points], [one.loss for one in points]
    laws = fit(sizes, losses), fit(sizes, losses, plain=True)
    return Curve(points[0].model, _data(points[0]), points[0].task, points, *laws, accept_then_stop(sizes, losses))


def _data(one: Trained) -> str:
    data = one.spec["data"]
    return " and ".join([str(data["path"]), *(str(part["path"]) for part in data.get("mix") or [])])


# Telling.


def asked(found: Sequence[Curve], rows: int) -> int:
    """The number of rows that is spoken of."""
    return rows or AHEAD * max(curve.most for curve in found)


def points_table(curve: Curve) -> Table:
    """The runs of a curve beside what the law says of them."""
    rows = [[one.rows, one.loss, curve.law(one.rows), one.run] for one in curve.points]
    return Table(f"{curve.model} on {curve.data}", ["rows", "validation loss", "the law", "run"], rows)


def told(curve: Curve, rows: int) -> list[str]:
    """The law and the loss to come, in sentences."""
    law, line = curve.law, curve.line
    off = f"{law.error:.1%} off on average" + ("; four runs leave nothing over to check it by" if len(curve.points) == FEWEST else "")
    later, gain = law(rows), 1 - law(rows) / law(curve.most)
    worth = "hardly lower" if 0 <= gain < HARDLY else f"{abs(gain):.0%} {'lower' if gain > 0 else 'higher'}"
    said = [
        f"L(D) = {number(law.scale)} / ({number(law.seen)} + D^{number(law.power)}) + {number(law.floor)}, {off}.",
        f"With {rows:,} rows about {number(later)} by the law, {worth} than with {curve.most:,}; "
        f"{number(line(rows))} by the line through the {line.used} largest runs.",
    ]
    if curve.points[-1].loss >= curve.points[0].loss:
        said.append("The loss did not fall with more rows, so no law holds here: look at the steps, the learning rate and the rows.")
    if rows > 100 * curve.most:
        said.append(f"That is more than a hundred times the {curve.most:,} rows seen: a guess.")
    return said


def as_values(curve: Curve, rows: int) -> dict[str, Any]:
    """A curve fit for JSON."""
    return {
        "model": curve.model,
        "data": curve.data,
        "points": [{"run": one.run, "rows": one.rows, "loss": one.loss} for one in curve.points],
        "law": asdict(curve.law),
        "plain": asdict(curve.plain),
        "line": asdict(curve.line),
        "rows": rows,
        "by_law": curve.law(rows),
        "by_line": curve.line(rows),
    }


def ranked(found: Sequence[Curve], rows: int) -> list[list[Curve]]:
    """Curves of one task and several models, the model with the lowest loss to come (by accept-then-stop) first."""
    tasks = defaultdict[str, list[Curve]](list)
    for curve in found:
        tasks[curve.task].append(curve)
    return [sorted(own, key=lambda curve: (curve.line(rows), curve.model)) for own in tasks.values() if len(own) > 1]


def ranking_table(curves_: Sequence[Curve], rows: int) -> Table:
    """Models in the order of `ranked`; what a token costs compares only models that share a tokenizer."""
    columns = ["model", f"by the line at {rows:,} rows", "by the law", "runs"]
    lines = [[curve.model, curve.line(rows), curve.law(rows), len(curve.points)] for curve in curves_]
    return Table(f"models for {curves_[0].data}, the best first", columns, lines)
