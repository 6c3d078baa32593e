"""What more rows would bring: runs with more and more rows as points, the law through them, and the loss with as many as one asks for.

Part of the Runs tab, drawn when it is opened. The fitting is `jobs/forecast.py`'s. Ids: runs-forecast, runs-forecast-rows,
runs-forecast-says-I, runs-forecast-figure-I.
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.events import Table
from workbench.jobs.forecast import Curve, asked, curves, points_table, ranked, ranking_table, told, trained
from workbench.ui import cards, forms, plots
from workbench.ui.context import Context

SHOWN = 4  # figures at once, of the newest runs
FINE = 60  # points of a curve


def build(ctx: Context) -> None:
    """Draw the section."""
    rows = gr.State(0)
    with gr.Accordion("Forecast: what more rows would bring", open=False, elem_id="runs-forecast", elem_classes=["more"]) as panel:

        @gr.render(inputs=[rows], triggers=[panel.expand, rows.change], **forms.DRAWN)
        def drawn(wanted: int) -> None:
            draw(ctx, rows, wanted)


def draw(ctx: Context, rows: gr.State, wanted: int) -> None:
    """What is seen when the section is open: the number of rows that is asked for, and of each task its sentences and its figure."""
    try:
        found = curves(trained(ctx.store))
    except WorkbenchError as error:  # too few runs yet, which is no mistake
        cards.place(cards.note(str(error)), elem_id="runs-forecast-says-0")
        return
    except cards.PROBLEMS as error:
        cards.place(cards.problem(error), elem_id="runs-forecast-says-0")
        return
    at = asked(found, wanted)
    number = gr.Number(
        at, label="Rows", info="The loss with so many is told", precision=0, minimum=1, interactive=True, elem_id="runs-forecast-rows"
    )
    gr.on([number.submit, number.blur], lambda given: int(given or 0), number, rows, **forms.WRITER)
    for place, own in enumerate(_tasks(found)[:SHOWN]):
        cards.place(says(own, at), elem_id=f"runs-forecast-says-{place}")
        gr.Plot(figure(own, at), show_label=False, elem_id=f"runs-forecast-figure-{place}", elem_classes=["figure"])


def says(found: Sequence[Curve], rows: int) -> str:
    """Models of one task: their order, and of each its law, its loss to come and its runs."""
    parts = [_table(ranking_table(own, rows)) for own in ranked(found, rows)]
    if parts:
        parts.append('<p class="quiet">What a token costs compares only models that share a tokenizer.</p>')
    for curve in found:
        parts += [f"<p>{cards.escaped(sentence)}</p>" for sentence in told(curve, rows)]
        parts.append(_table(points_table(curve)))
    return "".join(parts)


def figure(found: Sequence[Curve], rows: int) -> Any:
    """The runs of each model as points, and its law up to the rows that are asked for."""
    drawn = {}
    for curve in found:
        first, last = curve.points[0].rows, max(rows, curve.most)
        sizes = [first * (last / first) ** (place / (FINE - 1)) for place in range(FINE)]
        points = [one.rows for one in curve.points], [one.loss for one in curve.points]
        drawn[cards.escaped(curve.model)] = points, (sizes, [curve.law(size) for size in sizes])
    return plots.forecast(drawn, f"Loss by rows · {cards.escaped(found[0].data)}", rows)


def _tasks(found: Sequence[Curve]) -> list[list[Curve]]:
    """The curves of each task together, that of the newest run first."""
    newest = sorted(found, key=lambda curve: max(one.run for one in curve.points), reverse=True)
    return [[curve for curve in found if curve.task == task] for task in dict.fromkeys(curve.task for curve in newest)]


def _table(table: Table) -> str:
    return f"<h4>{cards.escaped(table.name)}</h4>{cards.table(table.columns, table.rows)}"
