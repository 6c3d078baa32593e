"""The list of runs as HTML: a tick to overlay, a name to open, a sparkline of the loss, the key numbers first → last; which of the runs
are listed, and in which order.

Pure functions over what the store gives back, save the sparkline's few points, which the caller supplies.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from workbench.core.words import duration, number
from workbench.runs.records import Line, Run
from workbench.ui.cards import escaped
from workbench.ui.differing import settings
from workbench.ui.plots import run_colour
from workbench.ui.words import attributes, dot, run_label, status_words

PAGE = 50  # runs shown at first, and how many more each time
WIDE, HIGH = 96, 24
KEY = (("loss", "loss"), ("validation_loss", "validation"), ("base_loss", "known skills"), ("step_ratio", "r"))
"""Numbers with a column of their own, as (metric, heading)."""
TOOK = "took"
EMPTY = '<p class="quiet">No runs yet. Start one on the Train tab; it stays here for good.</p>'


def run_list(runs: Sequence[Run], loss: Callable[[Run], Line], asked: Mapping[str, Any]) -> str:
    """The table as a page asks for it: at most `limit` rows, those that are `open` and `ticked` marked; the rest as `listed` has it."""
    words, kind, sort = (str(asked.get(name, "")) for name in ("words", "kind", "sort"))
    found = listed(runs, words, kind, sort)
    if runs and not found:
        return f'{kinds(runs, kind)}<p class="quiet" role="status">No run of {len(runs):,} has this in its name, status or settings.</p>'
    limit = int(asked.get("limit", PAGE))
    older, ticked = max(0, len(found) - limit), asked.get("ticked", ())
    return kinds(runs, kind) + run_table(found[:limit], loss, str(asked.get("open", "")), older, sort, ticked)


def listed(runs: Sequence[Run], words: str = "", kind: str = "", sort: str = "") -> list[Run]:
    """Those of a kind whose label, status and settings hold all of the words, of which one may say which setting (`seed=4`); by the last
    value of a metric, the lowest first (`-loss`: the highest), or as they were given. A run without that number comes last."""
    wanted = words.casefold().split()
    found = [run for run in runs if kind in ("", run.kind) and _has(run, wanted)]
    if not sort:
        return found
    sign = -1 if sort.startswith("-") else 1
    return sorted(found, key=lambda run: (math.isnan(value := _number(run, sort.removeprefix("-"))), sign * value))


def _has(run: Run, words: Sequence[str]) -> bool:
    if not words:
        return True
    held = {name: str(value).casefold() for name, value in settings(run.spec).items()}
    text = " ".join([run.id, run.name, run.kind, status_words(run.kind, run.status), run.status, *held.values()]).casefold()
    return all(word in text or _is_set(held, word) for word in words)


def _is_set(held: Mapping[str, str], word: str) -> bool:
    """Whether a word such as `lr=0.002` or `update.lr=0.002` is true of these settings."""
    name, equals, wanted = word.partition("=")
    return bool(equals) and any(f".{own}".endswith(f".{name}") and value == wanted for own, value in held.items())


def _number(run: Run, name: str) -> float:
    return _seconds(run) if name == TOOK else run.metrics[name][1] if name in run.metrics else math.nan


def _seconds(run: Run) -> float:
    return (run.ended - run.started).total_seconds() if run.started and run.ended else math.nan


def turned(sort: str, by: str) -> str:
    """What a click on a column's head does to the order: the lowest first, then the highest, then the newest as before."""
    return {by: f"-{by}", f"-{by}": ""}.get(sort, by)


def kinds(runs: Sequence[Run], kind: str) -> str:
    """Buttons that list the runs of one kind, with how many there are; empty where all are of one kind."""
    there = Counter(run.kind for run in runs)
    if len(there) < 2 and kind in ("", *there):
        return ""
    every = [("", "all", len(runs)), *((name, name, many) for name, many in sorted(there.items()))]
    return f'<div class="kinds" role="group" aria-label="Kinds of runs">{"".join(_kind(*one, kind) for one in every)}</div>'


def _kind(name: str, said: str, many: int, chosen: str) -> str:
    where = attributes(type="button", data_event="kind", data_kind=name, data_keep=f"kind-{said}", aria_pressed=str(name == chosen).lower())
    return f'<button class="quiet-button" {where}>{escaped(said)} {many:,}</button>'


def run_table(
    runs: Sequence[Run], loss: Callable[[Run], Line], opened: str, older: int, sort: str = "", ticked: Collection[str] = ()
) -> str:
    """All rows; `older` runs are not shown and can be asked for."""
    if not runs:
        return EMPTY
    heads = [("", ""), ("", "run"), ("", "status"), ("", "loss curve"), *KEY, ("", "steps"), (TOOK, TOOK), ("", "made")]
    head = "".join(_head(name, heading, sort) for name, heading in heads)
    body = "".join(_row(run, spark(*loss(run), run_colour(run.id)), run.id == opened, run.id in ticked) for run in runs)
    words = "more" if sort else "older"
    more = f'<button type="button" class="quiet-button" data-event="more" data-keep="more">show {older:,} {words}</button>'
    return (
        f'<div class="table-box runs" tabindex="0"><table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{more if older else ''}"
    )


def _head(name: str, heading: str, sort: str) -> str:
    """A column's head; where its numbers can be put in order, a button that does so."""
    if not name:
        return f"<th>{heading}</th>"
    order = {name: "ascending", f"-{name}": "descending"}.get(sort, "none")
    title = "Lowest first, highest first, newest first"
    where = attributes(type="button", data_event="sort", data_by=name, data_keep=f"sort-{name}", title=title)
    return f'<th aria-sort="{order}"><button {where}>{heading}</button></th>'


def _row(run: Run, curve: str, opened: bool, ticked: bool) -> str:
    tick = attributes(type="checkbox", value=run.id, data_event="tick", data_keep=f"tick-{run.id}", aria_label=f"overlay run {run.id}")
    label = run_label(run.id, run.name)
    name = attributes(type="button", data_event="open", data_run=run.id, data_keep=f"open-{run.id}", title=label)
    cells = [
        f"<input {tick}{' checked' if ticked else ''}>",
        f'<button class="run-name" {name}>{escaped(label)}</button> <span class="quiet">{escaped(run.kind)}</span>',
        f"<span class=nowrap>{dot(run.status)} {escaped(status_words(run.kind, run.status))}</span>",
        curve,
        *(_change(run, metric) for metric, _ in KEY),
        f"{run.step:,}/{run.total:,}" if run.total and run.unit == "step" else "",
        duration(_seconds(run)) if run.started and run.ended else "",
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
