"""The map of a data set and its gauges: drawn on request, because a model reads the rows for it; drawn again when what stays changes.

Part of the Data tab. The work is `jobs/surveying.py`'s. Ids: data-map, data-map-go, data-map-says, data-map-figure,
data-map-chosen, data-map-row, data-map-number, data-map-near.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.parts import DataSpec
from workbench.core.words import number
from workbench.jobs.surveying import Spot, Survey, survey
from workbench.ui import cards, forms, plots
from workbench.ui.context import Context
from workbench.ui.watching import watched

HINT = '<p class="quiet">Draw around rows on the map, and they alone are listed. Or list a row and its neighbours by number.</p>'
NEAR = 20  # rows that are listed around one, at first


def build(ctx: Context, counted: gr.State, narrow: gr.State, show: gr.Dropdown) -> None:
    """Draw the section; `counted` holds the recipe and the model whose rows are shown, or None. Rows that are chosen on the map, with the
    lasso or by number, are those that are listed then (`narrow`), kept or not (`show`)."""
    wanted = gr.State(False)  # whether the map was asked for: then it follows the recipe
    drawn = gr.State([])  # its spots
    with gr.Accordion("Map", open=False, elem_id="data-map", elem_classes=["more"]):
        go = gr.Button("Draw the map: the model reads each row twice", elem_id="data-map-go", size="sm")
        says = cards.place(elem_id="data-map-says", above_figure=True)
        picture = gr.Plot(show_label=False, container=False, visible=False, elem_id="data-map-figure", elem_classes=["figure"])
        chosen = gr.HTML(HINT, elem_id="data-map-chosen", js_on_load="Workbench.lasso('data-map-figure', trigger)", apply_default_css=False)
        with gr.Row(visible=False, elem_classes=["row-tools"]) as by_number:
            whole: dict[str, Any] = {"precision": 0, "interactive": True, "min_width": 90}
            row = gr.Number(1, label="Row", elem_id="data-map-row", **whole)
            many = gr.Number(NEAR, label="Rows nearest to it", elem_id="data-map-number", **whole)
            near = gr.Button("List them", size="sm", elem_id="data-map-near", min_width=90)

    still = gr.skip(), gr.skip()  # the spots and the fields, as they are

    def work(held: dict[str, Any] | None) -> Iterator[tuple[Any, ...]]:
        if held is None:
            yield cards.note("Count what the steps keep first.", "watch"), gr.skip(), False, *still
            return
        try:
            spec: Any = DataSpec.parse(held["data"])
            for said in watched(survey(spec, ctx.workspace, held["model"])):
                if isinstance(said, str):
                    yield said, gr.skip(), True, *still
                else:
                    figure = gr.Plot(plots.terrain([astuple(spot) for spot in said.spots]), visible=True)
                    yield gauges(said), figure, True, said.spots, gr.Row(visible=True)
        except cards.PROBLEMS as error:
            yield cards.problem(error), gr.skip(), False, *still

    def follow(asked: bool, held: dict[str, Any] | None) -> Iterator[tuple[Any, ...]]:
        if asked and held is None:
            yield cards.note("The map is of before: what stays is being counted.", "watch"), gr.skip(), True, *still
        elif asked:
            yield from work(held)

    def picked(held: dict[str, Any], event: gr.EventData) -> tuple[dict[str, Any], Any]:
        rows = tuple(sorted(int(number) for number in event.pick.removeprefix("rows:").split(",") if number))
        return ({**held, "rows": rows, "says": "chosen on the map"}, "all") if rows else ({**held, "rows": None, "says": ""}, gr.skip())

    def neighbours(spots: list[Spot], middle: float | None, most: float | None, held: dict[str, Any]) -> tuple[Any, Any, str]:
        try:
            rows = nearest(spots, int(middle or 0), max(0, int(most or 0)))
        except WorkbenchError as error:
            return gr.skip(), gr.skip(), cards.error_card(error)
        return {**held, "rows": rows, "says": f"around row {int(middle or 0):,} on the map"}, "all", HINT

    chosen.select(picked, narrow, [narrow, show], **forms.WRITER)
    gr.on([near.click, row.submit, many.submit], neighbours, [drawn, row, many, narrow], [narrow, show, chosen], **forms.WRITER)
    outputs = [says, picture, wanted, drawn, by_number]
    go.click(work, counted, outputs, trigger_mode="once", **forms.WRITER)
    counted.change(follow, [wanted, counted], outputs, trigger_mode="always_last", **forms.WRITER)


def nearest(spots: Sequence[Spot], row: int, number: int) -> tuple[int, ...]:
    """A row of the map and the `number` that lie nearest to it, in the order of the file.

    Raises:
        WorkbenchError: the row is not on the map.
    """
    middle = next((spot for spot in spots if spot.row == row), None)
    if middle is None:
        own = f"{len(spots):,} of the rows {spots[0].row:,} to {spots[-1].row:,}" if spots else "no row"
        raise WorkbenchError(f"Row {row:,} is not on this map. It shows {own}: choose another one.")
    away = sorted(spots, key=lambda spot: (math.dist((spot.x, spot.y), (middle.x, middle.y)), spot is not middle))
    return tuple(sorted(spot.row for spot in away[: 1 + number]))


def gauges(found: Survey) -> str:
    """Coverage and depth of what stays, and what they mean."""
    told = " Of some rows, evenly taken." if found.sampled else ""
    tiles = [
        (f"{found.coverage:.0%}", "coverage: cells of the map that are reached", ""),
        (number(found.depth), f"depth: nats that a row teaches (all rows: {number(found.depth_of_all)})", ""),
    ]
    return cards.tiles(tiles) + f'<p class="quiet">After the idea of ILA.{told}</p>'
