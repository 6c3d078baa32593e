"""The map of a data set and its gauges: drawn on request, because a model reads the rows for it; drawn again when what stays changes.

Part of the Data tab. The work is `jobs/surveying.py`'s. Ids: data-map, data-map-go, data-map-says, data-map-figure,
data-map-chosen.
"""

from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import gradio as gr

from workbench.core.parts import DataSpec
from workbench.core.words import number
from workbench.jobs.surveying import Survey, survey
from workbench.ui import cards, forms, plots
from workbench.ui.context import Context
from workbench.ui.watching import watched

HINT = '<p class="quiet">Draw around rows on the map, and they alone are listed.</p>'


def build(ctx: Context, counted: gr.State, narrow: gr.State, show: gr.Dropdown) -> None:
    """Draw the section; `counted` holds the recipe and the model whose rows are shown, or None. Rows that are chosen on the map with the
    lasso are those that are listed then (`narrow`), kept or not (`show`)."""
    wanted = gr.State(False)  # whether the map was asked for: then it follows the recipe
    with gr.Accordion("Map", open=False, elem_id="data-map", elem_classes=["more"]):
        go = gr.Button("Draw the map: the model reads each row twice", elem_id="data-map-go", size="sm")
        says = cards.place(elem_id="data-map-says", above_figure=True)
        picture = gr.Plot(show_label=False, container=False, visible=False, elem_id="data-map-figure", elem_classes=["figure"])
        chosen = gr.HTML(HINT, elem_id="data-map-chosen", js_on_load="Workbench.lasso('data-map-figure', trigger)", apply_default_css=False)

    def work(held: dict[str, Any] | None) -> Iterator[tuple[Any, Any, bool]]:
        if held is None:
            yield cards.note("Count what the steps keep first.", "watch"), gr.skip(), False
            return
        try:
            spec: Any = DataSpec.parse(held["data"])
            for said in watched(survey(spec, ctx.workspace, held["model"])):
                if isinstance(said, str):
                    yield said, gr.skip(), True
                else:
                    yield gauges(said), gr.Plot(plots.terrain([astuple(spot) for spot in said.spots]), visible=True), True
        except cards.PROBLEMS as error:
            yield cards.problem(error), gr.skip(), False

    def follow(asked: bool, held: dict[str, Any] | None) -> Iterator[tuple[Any, Any, bool]]:
        if asked and held is None:
            yield cards.note("The map is of before: what stays is being counted.", "watch"), gr.skip(), True
        elif asked:
            yield from work(held)

    def picked(held: dict[str, Any], event: gr.EventData) -> tuple[dict[str, Any], Any]:
        rows = tuple(sorted(int(number) for number in event.pick.removeprefix("rows:").split(",") if number))
        return ({**held, "rows": rows, "says": "chosen on the map"}, "all") if rows else ({**held, "rows": None, "says": ""}, gr.skip())

    chosen.select(picked, narrow, [narrow, show], **forms.WRITER)
    go.click(work, counted, [says, picture, wanted], trigger_mode="once", **forms.WRITER)
    counted.change(follow, [wanted, counted], [says, picture, wanted], trigger_mode="always_last", **forms.WRITER)


def gauges(found: Survey) -> str:
    """Coverage and depth of what stays, and what they mean."""
    told = " Of some rows, evenly taken." if found.sampled else ""
    tiles = [
        (f"{found.coverage:.0%}", "coverage: cells of the map that are reached", ""),
        (number(found.depth), f"depth: nats that a row teaches (all rows: {number(found.depth_of_all)})", ""),
    ]
    return cards.tiles(tiles) + f'<p class="quiet">After the idea of ILA.{told}</p>'
