"""What was forgotten by what was learnt, over the runs on record. Part of the Runs tab, drawn when it is opened; the laws are
`jobs/forgetting.py`'s. Ids: runs-forgetting, runs-forgetting-says-I, runs-forgetting-figure-I.
"""

from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.jobs.forgetting import PICTURE, Account, accounts, measured, table, told
from workbench.ui import cards, forms, plots
from workbench.ui.context import Context

SHOWN = 4  # accounts at once


def build(ctx: Context) -> None:
    """Draw the section."""
    with gr.Accordion("Forgetting: what learning has cost", open=False, elem_id="runs-forgetting", elem_classes=["more"]) as panel:

        @gr.render(triggers=[panel.expand], **forms.DRAWN)
        def drawn() -> None:
            draw(ctx)


def draw(ctx: Context) -> None:
    """Of each task its sentences, its figure and its runs; or a sentence that says what is missing."""
    try:
        found = accounts(measured(ctx.store, ctx.workspace))
    except WorkbenchError as error:  # too few runs yet, which is no mistake
        cards.place(cards.note(str(error)), elem_id="runs-forgetting-says-0")
        return
    for place, account in enumerate(found[:SHOWN]):
        cards.place(says(account), elem_id=f"runs-forgetting-says-{place}")
        gr.Plot(figure(account), show_label=False, elem_id=f"runs-forgetting-figure-{place}", elem_classes=["figure"])


def figure(account: Account) -> Any:
    """The runs and the line through them."""
    ends = account.line.seen
    along = {"color": plots.GREY, "dash": "dash", "width": 1.5}
    drawn = plots.pictured(table(account), PICTURE)
    drawn.add_scatter(x=ends, y=[account.line(loss) for loss in ends], name="the line", mode="lines", line=along, hoverinfo="skip")
    return drawn.update_layout(showlegend=True)


def says(account: Account) -> str:
    """The account in words, and its runs."""
    runs = table(account)
    words = "".join(f"<p>{cards.escaped(sentence)}</p>" for sentence in told(account))
    return f"<h4>{cards.escaped(account.title)}</h4>{words}{cards.table(runs.columns, runs.rows)}"
