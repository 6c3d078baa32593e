"""The live chart: loss, gradient norm and step safety of one run, live or stored, in one Plotly div that is never remounted.

The page asks for what is new since its cursor and gets only that, so ten browser tabs cost ten small answers
(gui.md 3.3). Drawing is assets/livechart.js; thinning is the store's work. Writes nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.words import duration, number
from workbench.runs.records import Run
from workbench.ui.cards import escaped
from workbench.ui.context import Context
from workbench.ui.performance import speed_of
from workbench.ui.words import dot, standing, status_words

DRAWN = ("loss", "validation_loss", "base_loss", "grad_norm", "step_ratio", "rho_a", "step_ratio_taken")
READ_OUT = (("memory_gb", "{} GB"), ("loss", "loss {}"), ("step_ratio", "r {}"))
MARKED = 200  # steps marked on the curve; a run that diverges has a note for each of its last
TEMPLATE = """<div class="livechart" data-piece="{}"><div class="status" aria-live="polite"></div>
<div class="plot"></div><div class="legend"></div></div>"""

WELCOME = """<div class="welcome"><h2>Your first run</h2><ol>
<li><b>Start</b> trains what stands above the tabs, the piece in work. As it comes, a small demo model learns to answer like a storyteller:
no GPU and no network are needed, and it takes about a minute. Its curves and its answers appear here.</li>
<li><b>Ask it</b> then puts the model as it was beside the model as it is.</li>
<li>To learn from rows of your own, <b>bring a file on the Data tab</b>. The Adapter tab says what may move in the model, and at what
cost.</li></ol></div>"""
"""Where the chart will be, as long as there is no run."""


def live_chart(ctx: Context, elem_id: str, usual: Callable[[], str] = lambda: "") -> gr.HTML:
    """The component. Its value is `{"run": id}`; an event that puts out another id makes it show that run.

    `usual` names the run that is shown as long as nobody has chosen one.
    """

    def closely(asked: dict[str, Any]) -> dict[str, Any]:
        return part(ctx, str(asked.get("run") or ""), int(asked.get("first") or 0), int(asked.get("last") or 0))

    ctx.pulse.piece(elem_id, lambda asked: news(ctx, str(asked.get("run") or usual()), int(asked.get("cursor") or 0)))
    return gr.HTML(
        value={"run": ""},
        html_template=TEMPLATE.replace("{}", elem_id),
        js_on_load="Workbench.livechart(element, props, watch, server)",
        server_functions=[closely],
        apply_default_css=False,
        elem_id=elem_id,
    )


def news(ctx: Context, run_id: str, cursor: int) -> dict[str, Any]:
    """What the page has not yet: `points` by name as [steps, values, steps without a number], and the status line."""
    if not run_id:
        none = "No run yet. Start one, and its loss appears here."
        return {"cursor": 0, "reset": True, "points": {}, "status": WELCOME, "reasons": {"y": none}}
    try:
        run = ctx.store.run(run_id)
        delta = ctx.store.since(run_id, cursor)
    except WorkbenchError as error:
        return {"cursor": 0, "reset": True, "points": {}, "status": escaped(error), "reasons": {}}
    points = {name: split(*delta.points[name]) for name in DRAWN if name in delta.points and len(delta.points[name][0])}
    return {
        "run": run_id,
        "cursor": delta.cursor,
        "reset": delta.reset or cursor == 0,
        "points": points,
        "marks": marks(ctx, run_id) if points else None,
        "status": status_line(ctx, run),
        "reasons": reasons(run.status, run.spec),
    }


def marks(ctx: Context, run_id: str) -> list[tuple[int, str, str]]:
    """(step, sentence, level) of the notes that speak of one step, for the curve; the newest `MARKED`."""
    return [(note.step, note.text, note.level) for note in ctx.store.notes(run_id) if note.step >= 0][-MARKED:]


def part(ctx: Context, run_id: str, first: int, last: int) -> dict[str, list[list[float]]]:
    """The lines between two steps, thinned only if that part alone is too long; for somebody who zooms in."""
    try:
        return {name: split(*ctx.store.series(run_id, name, first=first, last=last)) for name in DRAWN}
    except WorkbenchError:
        return {}


def split(steps: Sequence[float], values: Sequence[float]) -> list[list[float]]:
    """(steps, values) as lists fit for JSON: what is not finite is taken out, and its steps stand in the third list."""
    pairs = [(float(step), float(value)) for step, value in zip(steps, values, strict=True)]
    good = [(step, value) for step, value in pairs if math.isfinite(value)]
    return [[step for step, _ in good], [value for _, value in good], [step for step, value in pairs if not math.isfinite(value)]]


def status_line(ctx: Context, run: Run) -> str:
    """Where the run stands in one line of HTML: status, step, time left, speed (where its steps train), memory, loss and r."""
    live = next((job for job in ctx.runner.live() if job.id == run.id), None)
    latest = live.latest if live else {name: last for name, (_, last) in run.metrics.items()}
    steps = run.unit == "step" and run.total
    facts = [f"step <b>{run.step:,}</b> of {run.total:,}" if steps else escaped(standing(run.step, run.total, run.unit))]
    if live and live.seconds_left is not None:
        facts.append(f"<b>{duration(live.seconds_left)}</b> left")
    speed = speed_of(ctx.store, run)
    facts.append(f"<b>{number(speed)}</b> tokens/s" if math.isfinite(speed) else "")
    facts += [shape.format(f"<b>{number(latest[name])}</b>") for name, shape in READ_OUT if name in latest]
    words = f'<span class="what">{dot(run.status)}{escaped(status_words(run.kind, run.status))}</span>'
    return words + "".join(f"<span>{fact}</span>" for fact in facts if fact)


def reasons(status: str, spec: Mapping[str, Any]) -> dict[str, str]:
    """Why a panel is empty, by its axis."""
    if status not in ("queued", "running", "paused"):
        return {"y": "This run measured no loss.", "y2": "This run measured no gradient norm.", "y3": "This run measured no ρ_a."}
    every = max((int(probe.get("every", 1)) for probe in spec.get("probes", [])), default=1)
    return {
        "y": "No loss yet: the first step is being taken." if status != "queued" else "No loss yet: the run waits its turn.",
        "y2": "No gradient norm yet: it is read with the first step.",
        "y3": f"No ρ_a yet: the probe runs every {every} steps." if every > 1 else "No ρ_a yet: it is read with the first step.",
    }
