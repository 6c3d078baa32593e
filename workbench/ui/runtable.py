"""The list of runs as HTML: a tick to overlay, a name to open, a sparkline of the loss, the key numbers first → last.

Pure functions over what the store gives back, save the sparkline's few points, which the caller supplies.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from workbench.core.words import duration, number
from workbench.runs.records import Line, Run
from workbench.ui.cards import escaped
from workbench.ui.plots import run_colour
from workbench.ui.words import attributes, dot, run_label, status_words

WIDE, HIGH = 96, 24
KEY = (("loss", "loss"), ("validation_loss", "validation"), ("base_loss", "known skills"), ("step_ratio", "r"))
"""Numbers with a column of their own, as (metric, heading)."""


def run_table(runs: Sequence[Run], loss: Callable[[Run], Line], opened: str, older: int) -> str:
    """All rows; `older` runs are not shown and can be asked for."""
    if not runs:
        return '<p class="quiet">No runs yet. Start one on the Train tab; it stays here for good.</p>'
    heads = ["", "run", "status", "loss curve", *(heading for _, heading in KEY), "steps", "took", "made"]
    head = "".join(f"<th>{heading}</th>" for heading in heads)
    body = "".join(_row(run, spark(*loss(run), run_colour(run.id)), run.id == opened) for run in runs)
    more = f'<button type="button" class="quiet-button" data-event="more" data-keep="more">show {older:,} older</button>'
    return (
        f'<div class="table-box runs" tabindex="0"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{more if older else ''}"
    )


def _row(run: Run, curve: str, opened: bool) -> str:
    tick = attributes(type="checkbox", value=run.id, data_event="tick", data_keep=f"tick-{run.id}", aria_label=f"overlay run {run.id}")
    name = attributes(type="button", data_event="open", data_run=run.id, data_keep=f"open-{run.id}")
    cells = [
        f"<input {tick}>",
        f'<button class="run-name" {name}>{escaped(run_label(run.id, run.name))}</button> <span class="quiet">{escaped(run.kind)}</span>',
        f"<span class=nowrap>{dot(run.status)} {escaped(status_words(run.kind, run.status))}</span>",
        curve,
        *(_change(run, metric) for metric, _ in KEY),
        f"{run.step:,}/{run.total:,}" if run.total and run.unit == "step" else "",
        duration((run.ended - run.started).total_seconds()) if run.started and run.ended else "",
        when(run.created),
    ]
    return f'<tr class="{"opened" if opened else ""}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _change(run: Run, metric: str) -> str:
    """`2.81 → 1.22`, or nothing where it was not measured."""
    if metric not in run.metrics:
        return ""
    first, last = run.metrics[metric]
    return f"<span class=nowrap>{number(first)} → <b>{number(last)}</b></span>"


def when(moment: datetime) -> str:
    """`just now`, `12 min ago`, else the date and time in UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    minutes = (datetime.now(UTC) - aware).total_seconds() / 60
    if minutes < 60:
        return "just now" if minutes < 1 else f"{minutes:.0f} min ago"
    return f"{aware:%Y-%m-%d %H:%M}"


def spark(steps: Sequence[float], values: Sequence[float], colour: str) -> str:
    """A line as inline SVG, fitted to its own range; what is not finite leaves a gap."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    across, up = max(1, steps[-1] - steps[0]), (high - low) or 1
    places = [
        f"{(step - steps[0]) / across * (WIDE - 4) + 2:.1f},{HIGH - 3 - (value - low) / up * (HIGH - 6):.1f}"
        if math.isfinite(value)
        else ""
        for step, value in zip(steps, values, strict=True)
    ]
    pieces = [piece.split() for piece in " ".join(place or "|" for place in places).split("|")]
    drawn = "".join(f'<polyline points="{" ".join(piece)}"/>' for piece in pieces if len(piece) > 1)
    said = f"loss from {number(finite[0])} to {number(finite[-1])}"
    return (
        f'<svg class="spark" width="{WIDE}" height="{HIGH}" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{said}" '
        f'style="stroke:{colour}">{drawn}</svg>'
    )
