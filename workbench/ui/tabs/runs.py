"""The Runs tab: every run on record. Find and order them; tick some to see them over each other; open one to see all of it.

Elements for tests: `runs-table` (`[data-event=open][data-run]`, `[data-event=tick]`, `[data-event=find]`, `[data-event=kind][data-kind]`,
`[data-event=sort][data-by]`), `run-head run-chart run-report run-tables`, `runs-forecast`, `runs-forgetting`, buttons `run-again
run-resume run-compare run-take run-fold run-inspect run-evaluate run-name run-delete run-delete-sure run-delete-not`; those of
overlay, querying, naming, folding and closer beside it.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import gradio as gr

from workbench.core.asking import FINDING
from workbench.core.errors import WorkbenchError
from workbench.runs.records import LIVE, Line, Run
from workbench.ui import (
    cards,
    evaluating,
    folding,
    forecast,
    forgetting,
    found,
    inspecting,
    naming,
    overlay,
    querying,
    report,
    taking,
    tokenview,
)
from workbench.ui.again import label, recipe_of
from workbench.ui.bench import Bench
from workbench.ui.cards import escaped
from workbench.ui.cards import table as plain_table
from workbench.ui.closer import Closer, offers
from workbench.ui.context import Context
from workbench.ui.deleting import deleted, question
from workbench.ui.forms import DRAWN, READER, WRITER
from workbench.ui.livechart import live_chart
from workbench.ui.polled import polled
from workbench.ui.runtable import PAGE, run_list, turned

INSPECT, EVALUATE = "inspect", "evaluate"
EVENTS = ("open", "tick", "more", "find", "kind", "sort")
ASKED = {"limit": PAGE, "open": "", "words": "", "kind": "", "sort": "", "ticked": []}
AROUND = f"""<div class="runs-tools"><input type="search" data-event="find" placeholder="find: a name, a status, rank=16"
aria-label="Find in the runs">{taking.link(taking.PATH + "/runs.csv", "All as CSV")}</div>{{}}"""


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    table = polled(ctx.pulse, _table(ctx), "runs-table", every=2, events=EVENTS, value=ASKED, around=AROUND)
    listed = [gr.State(ASKED), table]
    _wire_table(listed, bench)
    overlay.build(ctx, bench, listed, lambda chosen: [run for run in (_found(ctx, run_id) for run_id in chosen) if run])
    forecast.build(ctx)
    forgetting.build(ctx)
    querying.build(ctx)
    with gr.Column(visible=False, elem_id="run-opened") as detail:
        head = polled(ctx.pulse, lambda run: (_head(ctx, run), ""), "run-head", every=2)
        buttons, confirm, sure, never = _buttons()
        fold, name, closer = folding.panel(), naming.panel(), _closer(ctx, bench)
        with gr.Row(elem_classes=["bench-row"]):
            with gr.Column(scale=7, min_width=340, elem_classes=["middle"]):
                chart = live_chart(ctx, "run-chart")
                pictured = found.gallery(ctx)
            with gr.Column(scale=5, min_width=300, elem_classes=["side"]):
                body = polled(ctx.pulse, lambda run: (_body(ctx, run), _status(ctx, run)), "run-report", every=2)
        tables = polled(ctx.pulse, lambda run: (_tables(ctx, run), ""), "run-tables", every=2)
    panels = [fold.asked, fold.says, name.asked, name.says, closer.shown, closer.says]
    _wire_opening(ctx, bench, listed, body, [*buttons, pictured], [detail, head, chart, body, tables, confirm, *panels])
    _wire_buttons(ctx, bench, buttons)
    by_name = dict(zip(BUTTONS, buttons, strict=True))
    folding.wire(ctx, bench, by_name["fold"], fold)
    naming.wire(ctx, bench, by_name["name"], name)
    for which in (INSPECT, EVALUATE):
        by_name[which].click(lambda which=which: (which, ""), None, [closer.shown, closer.says], **WRITER)
    _wire_delete(ctx, bench, by_name["delete"], confirm, sure, never)


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
        return run_list(ctx.store.runs(), lambda run: loss(run.id, run.step, run.status), value or ASKED), ""

    return read


def _wire_table(listed: list[Any], bench: Bench) -> None:
    """What narrows and orders the list stands in a state, and in the table's value, which the page sends along when it asks for the list.

    A state, because handlers take turns at one: of a search, a tick and an opened run that come together none takes another back.
    """
    asked, table = listed

    def change(asked: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return ({**asked, "limit": PAGE, **changes},) * 2

    def find(asked: dict[str, Any], event: gr.EventData) -> tuple[dict[str, Any], dict[str, Any]]:
        return change(asked, words=str(event.value))

    def only(asked: dict[str, Any], event: gr.EventData) -> tuple[dict[str, Any], dict[str, Any]]:
        return change(asked, kind=str(event.kind))

    def order(asked: dict[str, Any], event: gr.EventData) -> tuple[dict[str, Any], dict[str, Any]]:
        return change(asked, sort=turned(asked["sort"], str(event.by)))

    table.open(named, None, bench.opened, **WRITER)
    each: dict[str, Any] = {"trigger_mode": "multiple", **WRITER}  # "always_last" would come again with the words of the first
    table.find(find, asked, listed, **each)
    table.kind(only, asked, listed, **each)
    table.sort(order, asked, listed, **each)
    table.more(lambda asked: change(asked, limit=asked["limit"] + PAGE), asked, listed, **each)


BUTTONS = {
    "again": "Use this spec again", "resume": "Resume", "compare": "Compare with its base", "take": "Download", "fold": "Save as a model",
    "inspect": "Inspect…", "evaluate": "Learnt and lost…", "name": "Rename…", "delete": "Delete…",
}  # fmt: skip


def _buttons() -> tuple[list[gr.Button], gr.Row, gr.Button, gr.Button]:
    with gr.Row(elem_classes=["actions"]):
        buttons = [gr.Button(label, size="sm", elem_id=f"run-{name}", scale=0, min_width=90) for name, label in BUTTONS.items()]
    with gr.Row(visible=False, elem_classes=["card", "act", "actions"]) as confirm:
        cards.place(question(1))
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


def _wire_opening(ctx: Context, bench: Bench, listed: list[Any], body: gr.HTML, standing: list[Any], outputs: list[Any]) -> None:
    """`standing`: what follows the run's status also while it is open: the buttons, and which run has pictures to show."""

    def stands(run: Run | None) -> list[Any]:
        return [*offered(ctx, run), f"{run.id}:{run.status}" if run is not None and run.kind in FINDING else ""]

    def opened(run_id: str, asked: dict[str, Any]) -> tuple[Any, ...]:
        run = _found(ctx, run_id)
        shown = run.id if run else ""
        curves = gr.HTML({"run": shown}, visible=run is None or run.kind not in FINDING)
        drawn = (*({**asked, "open": shown},) * 2, gr.Column(visible=bool(run)), shown, curves, shown, shown)
        panels = (gr.Row(visible=False), "") * 2
        return (*drawn, gr.Row(visible=False), *panels, "", "", *stands(run))

    shown = bench.opened.change(opened, [bench.opened, listed[0]], [*listed, *outputs, *standing], **WRITER)
    shown.then(None, js="() => Workbench.look('run-opened')")  # below a long list one would not see that it is there
    body.moved(lambda run_id: stands(_found(ctx, run_id)), bench.opened, standing, trigger_mode="always_last", **WRITER)


def named(event: gr.EventData) -> str:
    """The run that a button names."""
    return str(event.run)


def offered(ctx: Context, run: Run | None) -> list[gr.Button]:
    """What can be done with this run, in the order of `BUTTONS`."""
    status, kind = (run.status, run.kind) if run else ("", "")
    resumes = status in ("stopped", "interrupted", "failed") and kind in ("train", "claim")
    whole = status == "finished" and kind in ("train", "merge")
    repeat = label(run, ctx.workspace)
    return [
        gr.Button(repeat or gr.skip(), visible=bool(repeat)),
        gr.Button(visible=resumes),
        gr.Button(visible=whole),
        download(ctx, run),
        gr.Button(visible=folding.offers(ctx, run)),
        gr.Button(visible=offers(run)),
        gr.Button(visible=offers(run)),
        gr.Button(visible=naming.offers(run)),
        gr.Button(visible=bool(run) and status not in LIVE),
    ]


def download(ctx: Context, run: Run | None) -> gr.Button:
    """The button that fetches what a run made, where it lies on disk."""
    there = taking.newest(ctx.store.made(run.id)) if run else None
    return gr.Button(visible=bool(there), link=taking.run_path(run.id) if run and there else None)


def _wire_buttons(ctx: Context, bench: Bench, buttons: list[gr.Button]) -> None:
    repeat, resume, compare, *_ = buttons

    def use(run_id: str, loaded: int) -> tuple[Any, ...]:
        run = ctx.store.run(run_id)
        if run.kind == "train":
            return run.spec, loaded + 1, gr.skip(), gr.Tabs(selected="train")
        try:
            return gr.skip(), gr.skip(), {"recipe": recipe_of(run, ctx.workspace), "asked": time.time()}, gr.Tabs(selected="merge")
        except WorkbenchError as error:
            gr.Warning(escaped(error))
            return (gr.skip(),) * 4

    def go_on(run_id: str) -> Any:
        try:
            ctx.runner.resume(run_id)
        except WorkbenchError as error:
            gr.Warning(escaped(error))
            return gr.skip()
        return gr.Tabs(selected="papers" if ctx.store.run(run_id).kind == "claim" else "train")

    def hold_against(run_id: str) -> tuple[Any, Any]:
        run = ctx.store.run(run_id)
        prompt = next((answer.prompt for answer in ctx.store.said(run.id)), "")
        return {"models": [evaluating.base_of(run), folding.reference(run)], "prompt": prompt}, gr.Tabs(selected="compare")

    repeat.click(use, [bench.opened, bench.loaded], [bench.spec, bench.loaded, bench.merge, bench.tabs], **WRITER)
    resume.click(go_on, bench.opened, bench.tabs, **WRITER)
    compare.click(hold_against, bench.opened, [bench.compare, bench.tabs], **WRITER)


def _wire_delete(ctx: Context, bench: Bench, delete: gr.Button, confirm: gr.Row, sure: gr.Button, never: gr.Button) -> None:
    """Delete asks once more, in place."""

    def remove(run_id: str) -> tuple[Any, Any]:
        return "" if deleted(ctx, [run_id]) else gr.skip(), gr.Row(visible=False)

    delete.click(lambda: gr.Row(visible=True), None, confirm, **READER)
    never.click(lambda: gr.Row(visible=False), None, confirm, **READER)
    sure.click(remove, bench.opened, [bench.opened, confirm], **WRITER)
