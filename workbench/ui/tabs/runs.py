"""The Runs tab: every run on record. Tick some to lay their curves over each other; open one to see all of it.

Elements for tests: `runs-table` (`[data-event=open][data-run]`, `[data-event=tick]`), `runs-metric`, `runs-curves`, `runs-numbers`,
`run-head run-chart run-report run-tables`, `runs-forecast`, `runs-forgetting`, buttons `run-again run-resume run-compare
run-fold run-inspect run-evaluate run-delete run-delete-sure run-delete-not`.
"""

import shutil
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import gradio as gr

from workbench.core.asking import FINDING
from workbench.core.errors import WorkbenchError
from workbench.runs.records import LIVE, Line, Run
from workbench.ui import cards, evaluating, folding, forecast, forgetting, found, inspecting, plots, report, tokenview
from workbench.ui.bench import Bench
from workbench.ui.cards import escaped
from workbench.ui.cards import table as plain_table
from workbench.ui.closer import Closer, offers
from workbench.ui.context import Context
from workbench.ui.forms import DRAWN, READER, WRITER, sentence_case
from workbench.ui.livechart import live_chart
from workbench.ui.polled import polled
from workbench.ui.runtable import run_table
from workbench.ui.words import metric, run_label

PAGE = 50  # runs shown at first, and how many more each time
LOGARITHMIC = ("grad_norm", "step_ratio", "rho_a", "tau", "lr")
PLANE = "plane"  # what stands in the list of curves where both losses of the plane are known
INSPECT, EVALUATE = "inspect", "evaluate"
MOST = 8  # runs whose curves are laid over each other


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    table = polled(ctx.pulse, _table(ctx), "runs-table", every=2, events=("open", "tick", "more"), value={"limit": PAGE, "open": ""})
    ticked = gr.State([])
    with gr.Column(visible=False, elem_id="runs-overlay") as overlay:
        which = gr.Dropdown([("Loss", "loss")], value="loss", label="Curves of the ticked runs", elem_id="runs-metric")
        curves = gr.Plot(show_label=False, elem_id="runs-curves", elem_classes=["figure"])
        numbers = cards.place(elem_id="runs-numbers")
    forecast.build(ctx)
    forgetting.build(ctx)
    with gr.Column(visible=False, elem_id="run-opened") as detail:
        head = polled(ctx.pulse, lambda run: (_head(ctx, run), ""), "run-head", every=2)
        buttons, confirm, sure, never = _buttons()
        fold, closer = folding.panel(), _closer(ctx, bench)
        with gr.Row(elem_classes=["bench-row"]):
            with gr.Column(scale=7, min_width=340, elem_classes=["middle"]):
                chart = live_chart(ctx, "run-chart")
                pictured = found.gallery(ctx)
            with gr.Column(scale=5, min_width=300, elem_classes=["side"]):
                body = polled(ctx.pulse, lambda run: (_body(ctx, run), _status(ctx, run)), "run-report", every=2)
        tables = polled(ctx.pulse, lambda run: (_tables(ctx, run), ""), "run-tables", every=2)
    _wire_overlay(ctx, table, ticked, overlay, which, curves, numbers)
    panels = [fold.asked, fold.says, closer.shown, closer.says]
    _wire_opening(ctx, bench, table, body, [*buttons, pictured], [detail, head, chart, body, tables, confirm, *panels])
    _wire_buttons(ctx, bench, buttons)
    folding.wire(ctx, bench, buttons[3], fold)
    for button, which in zip(buttons[4:6], (INSPECT, EVALUATE), strict=True):
        button.click(lambda which=which: (which, ""), None, [closer.shown, closer.says], **WRITER)
    _wire_delete(ctx, bench, buttons[-1], confirm, sure, never)


def _closer(ctx: Context, bench: Bench) -> Closer:
    """The panel for a closer look at the opened run, which is drawn when it is asked for."""
    with gr.Column(elem_id="run-closer"):
        closer = Closer(ctx, bench, gr.State(""), gr.State(inspecting.first()), cards.card_place("run-closer-says"))

        @gr.render(inputs=[closer.shown, closer.inspection], **DRAWN)
        def draw(shown: str, inspection: str) -> None:
            if shown:
                with gr.Column(elem_classes=["card"]):
                    inspecting.panel(closer, inspection) if shown == INSPECT else evaluating.panel(closer)

    return closer


def _table(ctx: Context) -> Callable[[dict[str, Any] | None], tuple[str, str]]:
    """The list as a read function; the sparkline of a run that is over is asked for once."""

    @lru_cache(maxsize=512)
    def loss(run: str, step: int, status: str) -> Line:
        return ctx.store.series(run, "loss", points=80)

    def read(value: dict[str, Any] | None) -> tuple[str, str]:
        asked = value or {}
        runs = ctx.store.runs()
        limit = int(asked.get("limit", PAGE))
        drawn = run_table(
            runs[:limit], lambda run: loss(run.id, run.step, run.status), str(asked.get("open", "")), max(0, len(runs) - limit)
        )
        return drawn, ""

    return read


def _buttons() -> tuple[list[gr.Button], gr.Row, gr.Button, gr.Button]:
    with gr.Row(elem_classes=["actions"]):
        names = (
            ("again", "Use this spec again"), ("resume", "Resume"), ("compare", "Compare with its base"), ("fold", "Save as a model"),
            ("inspect", "Inspect…"), ("evaluate", "Learnt and lost…"), ("delete", "Delete…"),
        )  # fmt: skip
        buttons = [gr.Button(label, size="sm", elem_id=f"run-{name}", scale=0, min_width=90) for name, label in names]
    with gr.Row(visible=False, elem_classes=["card", "act", "actions"]) as confirm:
        cards.place("Delete this run, its numbers and its folder for good? Models merged from it and votes on its answers stay.")
        sure = gr.Button("Delete for good", variant="stop", size="sm", elem_id="run-delete-sure", scale=0, min_width=130)
        never = gr.Button("Keep it", size="sm", elem_id="run-delete-not", scale=0, min_width=90)
    return buttons, confirm, sure, never


def _found(ctx: Context, run: str | None) -> Run | None:
    """The run, or nothing where none is opened or another page has deleted it."""
    try:
        return ctx.store.run(run) if run else None
    except WorkbenchError:
        return None


def _head(ctx: Context, run_id: str | None) -> str:
    run = _found(ctx, run_id)
    return report.headline(run) + report.failure(run) if run else ""


def _status(ctx: Context, run_id: str | None) -> str:
    run = _found(ctx, run_id)
    return f"{run.id}:{run.status}" if run else ""


def _body(ctx: Context, run_id: str | None) -> str:
    """Everything beside the curves: numbers, answers, notes, artifacts, tables, the spec."""
    run = _found(ctx, run_id)
    if run is None:
        return ""
    said = ctx.store.said(run.id)
    if run.kind in FINDING:
        return f"<h3>What was found</h3>{found.sentences(ctx.store.notes(run.id))}{report.spec_sheet(run)}"
    parts = [("First and last", report.scores(run))] if run.metrics else []
    told = report.grid if run.kind == "train" else report.samples
    parts += [("Answers", told(said))] if said else []
    shown = [table for table in ctx.store.tables(run.id) if not table.name.startswith(tokenview.TABLE)]
    parts += [(table.name.capitalize(), plain_table(table.columns, table.rows)) for table in shown]
    before = found.of_model(ctx.store, folding.reference(run)) if offers(run) else ""
    parts += [("Found of it", before)] if before else []
    parts += [("On disk", report.artifacts(ctx.store.made(run.id))), ("Notes", report.notes(ctx.store.notes(run.id)))]
    return "".join(f"<h3>{escaped(title)}</h3>{part}" for title, part in parts) + report.spec_sheet(run)


def _tables(ctx: Context, run_id: str | None) -> str:
    """The tables of what was found, which are wide."""
    run = _found(ctx, run_id)
    return found.tables(ctx.store.tables(run.id)) if run is not None and run.kind in FINDING else ""


def _wire_overlay(
    ctx: Context, table: gr.HTML, ticked: gr.State, overlay: gr.Column, which: gr.Dropdown, curves: gr.Plot, numbers: gr.HTML
) -> None:
    def tick(event: gr.EventData, chosen_metric: str) -> tuple[Any, ...]:
        chosen = sorted(event.ticked)[-MOST:]
        names = sorted({known for run in chosen for known in ctx.store.names(run)})
        both = [(plots.PLANE, PLANE)] if {found.FORGOTTEN, found.LEARNT} <= set(names) else []
        listed = [*((sentence_case(metric(name)), name) for name in names), *both]
        shown = chosen_metric if chosen_metric in {name for _, name in listed} else next(iter(names), "loss")
        drawn = gr.Plot(draw(chosen, shown), visible=bool(listed)), found.side_by_side_numbers(ctx.store, standing(chosen))
        return chosen, gr.Column(visible=bool(chosen)), gr.Dropdown(listed, value=shown, visible=bool(listed)), *drawn

    def standing(chosen: list[str]) -> list[Run]:
        return [run for run in (_found(ctx, run_id) for run_id in chosen) if run]

    def draw(chosen: list[str], name: str) -> Any:
        runs = standing(chosen)
        lines = {escaped(run_label(run.id, run.name)): ctx.store.series(run.id, name) for run in runs}
        colours = {escaped(run_label(run.id, run.name)): plots.run_colour(run.id) for run in runs}
        if name == PLANE:
            ways = {escaped(run_label(run.id, run.name)): ctx.store.lines(run.id, [found.FORGOTTEN, found.LEARNT]) for run in runs}
            return plots.plane({label: (way[found.FORGOTTEN], way[found.LEARNT]) for label, way in ways.items()}, colours)
        shown = {label: line for label, line in lines.items() if line[0]}
        said = metric(name)
        return plots.curves(shown, sentence_case(said), "step", said, log=name in LOGARITHMIC, colours=colours)

    table.tick(tick, which, [ticked, overlay, which, curves, numbers], **WRITER)
    which.input(draw, [ticked, which], curves, **READER)


def _wire_opening(ctx: Context, bench: Bench, table: gr.HTML, body: gr.HTML, standing: list[Any], outputs: list[Any]) -> None:
    """`standing`: what follows the run's status also while it is open: the buttons, and which run has pictures to show."""

    def stands(run: Run | None) -> list[Any]:
        return [*offered(ctx, run), f"{run.id}:{run.status}" if run is not None and run.kind in FINDING else ""]

    def opened(run_id: str, asked: dict[str, Any]) -> tuple[Any, ...]:
        run = _found(ctx, run_id)
        shown = run.id if run else ""
        curves = gr.HTML({"run": shown}, visible=run is None or run.kind not in FINDING)
        drawn = ({**asked, "open": shown}, gr.Column(visible=bool(run)), shown, curves, shown, shown)
        return (*drawn, gr.Row(visible=False), gr.Row(visible=False), "", "", "", *stands(run))

    bench.opened.change(opened, [bench.opened, table], [table, *outputs, *standing], **WRITER)
    table.open(named, None, bench.opened, **WRITER)
    table.more(lambda asked: {**asked, "limit": asked["limit"] + PAGE}, table, table, **READER)
    body.moved(lambda run_id: stands(_found(ctx, run_id)), bench.opened, standing, **WRITER)


def named(event: gr.EventData) -> str:
    """The run that a button names."""
    return str(event.run)


def offered(ctx: Context, run: Run | None) -> list[gr.Button]:
    """Again, resume, compare, save as a model, inspect, evaluate, delete: what can be done with this run."""
    status, kind = (run.status, run.kind) if run else ("", "")
    resumes = status in ("stopped", "interrupted", "failed") and kind == "train"
    whole = status == "finished" and kind in ("train", "merge")
    return [
        gr.Button(visible=kind == "train"),
        gr.Button(visible=resumes),
        gr.Button(visible=whole),
        gr.Button(visible=folding.offers(ctx, run)),
        gr.Button(visible=offers(run)),
        gr.Button(visible=offers(run)),
        gr.Button(visible=bool(run) and status not in LIVE),
    ]


def _wire_buttons(ctx: Context, bench: Bench, buttons: list[gr.Button]) -> None:
    again, resume, compare, *_ = buttons

    def use(run_id: str, loaded: int) -> tuple[Any, ...]:
        return ctx.store.run(run_id).spec, loaded + 1, gr.Tabs(selected="train")

    def go_on(run_id: str) -> Any:
        try:
            ctx.runner.resume(run_id)
        except WorkbenchError as error:
            gr.Warning(escaped(error))
            return gr.skip()
        return gr.Tabs(selected="train")

    def hold_against(run_id: str) -> tuple[Any, Any]:
        run = ctx.store.run(run_id)
        prompt = next((answer.prompt for answer in ctx.store.said(run.id)), "")
        return {"models": [evaluating.base_of(run), folding.reference(run)], "prompt": prompt}, gr.Tabs(selected="compare")

    again.click(use, [bench.opened, bench.loaded], [bench.spec, bench.loaded, bench.tabs], **WRITER)
    resume.click(go_on, bench.opened, bench.tabs, **WRITER)
    compare.click(hold_against, bench.opened, [bench.compare, bench.tabs], **WRITER)


def _wire_delete(ctx: Context, bench: Bench, delete: gr.Button, confirm: gr.Row, sure: gr.Button, never: gr.Button) -> None:
    """Delete asks once more, in place."""

    def remove(run_id: str) -> tuple[Any, Any]:
        try:
            ctx.store.delete(run_id)
        except WorkbenchError as error:
            gr.Warning(escaped(error))
            return gr.skip(), gr.Row(visible=False)
        shutil.rmtree(ctx.workspace.run(run_id))
        return "", gr.Row(visible=False)

    delete.click(lambda: gr.Row(visible=True), None, confirm, **READER)
    never.click(lambda: gr.Row(visible=False), None, confirm, **READER)
    sure.click(remove, bench.opened, [bench.opened, confirm], **WRITER)
