"""What is shown of the runs that are ticked in the list: their curves over each other, where their settings differ, what was found of them.

Part of the Runs tab. Ids: runs-overlay, runs-metric, runs-curves, runs-points, runs-differ, runs-numbers, runs-delete, runs-delete-sure,
runs-delete-not.
"""

from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from workbench.runs.records import Run
from workbench.ui import cards, differing, found, plots, taking
from workbench.ui.bench import Bench
from workbench.ui.cards import escaped
from workbench.ui.context import Context
from workbench.ui.deleting import deleted, question
from workbench.ui.forms import READER, WRITER, sentence_case
from workbench.ui.refresh import relisted
from workbench.ui.words import metric, run_label

LOGARITHMIC = ("grad_norm", "step_ratio", "rho_a", "tau", "lr")
PLANE = "plane"  # what stands in the list of curves where both losses of the plane are known
FIRST = ("loss", "validation_loss", "base_loss", "grad_norm", "step_ratio")  # of what can be shown; the others follow by their words
MOST = 8  # runs whose curves are laid over each other
Asked = dict[str, Any]
Standing = Callable[[list[str]], list[Run]]
"""Those of the runs that are still there."""


def build(ctx: Context, bench: Bench, listed: list[Any], standing: Standing) -> None:
    """Draw the section, which opens when a run is ticked. `listed`: the state that holds which are (`ticked`), and the table of it."""
    held, table = listed
    with gr.Column(visible=False, elem_id="runs-overlay") as overlay:
        which = gr.Dropdown([("Loss", "loss")], value="loss", label="Curves of the ticked runs", elem_id="runs-metric")
        curves = gr.Plot(show_label=False, elem_id="runs-curves", elem_classes=["figure"])
        points = cards.place(elem_id="runs-points")
        differ = cards.place(elem_id="runs-differ")
        numbers = cards.place(elem_id="runs-numbers")
        delete = gr.Button("Delete the ticked runs…", size="sm", elem_id="runs-delete", elem_classes=["quiet-button"])
        with gr.Row(visible=False, elem_classes=["card", "act", "actions"]) as confirm:
            asks = cards.place()
            sure = gr.Button("Delete for good", variant="stop", size="sm", elem_id="runs-delete-sure", scale=0, min_width=130)
            never = gr.Button("Keep them", size="sm", elem_id="runs-delete-not", scale=0, min_width=90)

    def measured(runs: list[Run]) -> list[tuple[str, str]]:
        return measures({name for run in runs for name in ctx.store.names(run.id)})

    def tick(event: gr.EventData, asked: Asked, chosen_metric: str) -> tuple[Any, ...]:
        every = all_ticked(asked["ticked"], event.ticked, event.empty)
        there = standing(every[-MOST:])
        known = measured(there)
        shown = chosen_metric if chosen_metric in {name for _, name in known} else next((name for _, name in known), "loss")
        boxes = gr.Column(visible=bool(every)), relisted(known, chosen_metric, shown, visible=bool(known))
        beside = _points(every, bool(known)), differing.side_by_side(there), found.side_by_side_numbers(ctx.store, there)
        return *({**asked, "ticked": every},) * 2, *boxes, *beside, gr.Button(visible=True), gr.Row(visible=False)

    def picture(asked: Asked, name: str) -> gr.Plot:
        there = standing(asked["ticked"][-MOST:])
        return gr.Plot(draw(ctx, there, name), visible=bool(measured(there)))

    def remove(asked: Asked, opened: str) -> tuple[Any, ...]:
        gone = deleted(ctx, asked["ticked"])
        return *({**asked, "ticked": []},) * 2, gr.Column(visible=False), "" if opened in gone else gr.skip()

    asking = [delete, confirm]
    # none is lost, and the last is drawn last
    one_by_one: dict[str, Any] = {**WRITER, "trigger_mode": "multiple", "concurrency_limit": 1, "concurrency_id": "ticked"}
    ticked = table.tick(tick, [held, which], [*listed, overlay, which, points, differ, numbers, *asking], **one_by_one)
    for then in (ticked.then, which.input):  # in the same line, with what is ticked and chosen by then
        then(picture, [held, which], curves, **{**one_by_one, "trigger_mode": "always_last"})
    delete.click(
        lambda asked: (gr.Button(visible=False), gr.Row(visible=True), question(len(asked["ticked"]))), held, [*asking, asks], **READER
    )
    never.click(lambda: (gr.Button(visible=True), gr.Row(visible=False)), None, asking, **READER)
    sure.click(remove, [held, bench.opened], [*listed, overlay, bench.opened], **WRITER)


def all_ticked(held: Iterable[str], ticked: Iterable[str], empty: Iterable[str]) -> list[str]:
    """The runs that are ticked, of those that are seen as their boxes say, whatever is still on its way; of the others as it is `held`."""
    return sorted({*held, *ticked} - {*empty})


def measures(names: set[str]) -> list[tuple[str, str]]:
    """What can be shown as (words, name): what one looks at first, then the others in the order of their words."""
    ordered = sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), metric(name)))
    both = [(plots.PLANE, PLANE)] if {found.FORGOTTEN, found.LEARNT} <= names else []
    return [*((sentence_case(metric(name)), name) for name in ordered), *both]


def draw(ctx: Context, runs: list[Run], name: str) -> Any:
    """One measure of these runs over their steps, or learning against forgetting."""
    colours = {escaped(run_label(run.id, run.name)): plots.run_colour(run.id) for run in runs}
    if name == PLANE:
        ways = {escaped(run_label(run.id, run.name)): ctx.store.lines(run.id, [found.FORGOTTEN, found.LEARNT]) for run in runs}
        return plots.plane({label: (way[found.FORGOTTEN], way[found.LEARNT]) for label, way in ways.items()}, colours)
    lines = {escaped(run_label(run.id, run.name)): ctx.store.series(run.id, name) for run in runs}
    said = metric(name)
    shown = {label: line for label, line in lines.items() if line[0]}
    return plots.curves(shown, sentence_case(said), "step", said, log=name in LOGARITHMIC, colours=colours)


def _points(runs: list[str], measured: bool) -> str:
    """Where to fetch the numbers of all of them, and how many are not drawn."""
    left = f" The newest {MOST} of the {len(runs)} ticked runs are shown." if len(runs) > MOST else ""
    return f'<p class="quiet">{taking.link(taking.curves_path(runs), "All their numbers as CSV") if measured else ""}{left}</p>'
