"""Bringing a file in: upload, name, a column mapper for files whose columns nobody can guess, progress, what was found.

Part of the Data tab. The file is read by `jobs/ingest.py` in a thread of its own (`runs/errand.py`): no handler waits until it is done, it
goes on while the page is closed, and every page shows how far it is. What was typed stays when it fails, so that the columns can be said
and the same file tried again.
Ids: data-bring, data-upload, data-name, data-columns, data-column-ROLE, data-ingest, data-bring-says, data-progress (event `stop`).
"""

from pathlib import Path
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.jobs.columns import KINDS, ROLES, columns_of, named_after
from workbench.jobs.ingest import ingest
from workbench.runs.errand import Errand, Told
from workbench.ui import cards, forms
from workbench.ui.context import Context
from workbench.ui.polled import polled

SOON = 2.0  # seconds in which a small file is there: longer than the page's pulse, which tells of the others
AROUND = '{}<button type="button" class="quiet-button" data-event="stop">Stop</button>'
"""The button stands still while the bar beside it is drawn anew, and is seen while there is one (assets/tabs.css)."""
MEANING = {
    "prompt": "what is asked",
    "answer": "what should be said",
    "input": "what belongs to the question",
    "system": "the system prompt",
    "text": "plain text, without question and answer",
    "messages": "a whole conversation",
}


def bring(ctx: Context) -> tuple[gr.State, gr.HTML]:
    """Draw the panel. The state holds the name of the data set that this page brought in last, and `.change` tells of it; the piece's
    `moved` tells that any page's work began or ended."""
    arrived, mine = gr.State(""), gr.State(0)
    errand = Errand()
    with gr.Accordion("Bring your own", open=False, elem_id="data-bring", elem_classes=["more", "offer"]):
        file = gr.File(label="JSON, CSV, Parquet, Arrow, text", file_types=list(KINDS), height=120, interactive=True, elem_id="data-upload")
        name = gr.Textbox(
            label="Name",
            max_lines=1,
            info="Letters, digits, '-', '_' and '.'; it stands in lists and specs",
            interactive=True,
            elem_id="data-name",
        )
        with gr.Accordion("Which column is which", open=False, elem_id="data-columns", elem_classes=["more"]) as mapper:
            cards.place('<p class="quiet">Only where the columns are not found by themselves. Leave the others empty.</p>')
            roles = {role: _role(role) for role in ROLES}
        says = cards.card_place("data-bring-says")
        piece = polled(ctx.pulse, lambda own: shown(errand.told(), own), "data-progress", events=("stop",), value=0, around=AROUND)
        go = gr.Button("Bring it in", elem_id="data-ingest", interactive=False)
    boxes = list(roles.values())

    def begin(path: str, typed: str, *columns: str) -> tuple[Any, ...]:
        chosen = {role: column for role, column in zip(ROLES, columns, strict=True) if column}
        try:
            number = errand.start(typed.strip(), ingest(Path(path), typed.strip(), ctx.workspace, chosen))
        except WorkbenchError as error:
            return cards.error_card(error), *[gr.skip()] * 4
        return "", number, number, *_came(errand.wait(SOON), number)

    file.change(_look, [file], [says, piece, name, go, mapper, *boxes], **forms.READER)
    go.click(begin, [file, name, *boxes], [says, piece, mine, arrived, mapper], trigger_mode="once", **forms.WRITER)
    piece.moved(lambda own: _came(errand.told(), own), mine, [arrived, mapper], **forms.WRITER)
    piece.stop(errand.stop, None, None, **forms.READER)
    return arrived, piece


def _role(role: str) -> gr.Dropdown:
    return gr.Dropdown(
        choices=[""], value="", label=forms.sentence_case(role), info=MEANING[role], interactive=True, elem_id=f"data-column-{role}"
    )


def _look(path: str | None) -> tuple[Any, ...]:
    """A name from the file's name, and its columns for the mapper."""
    if not path:
        return ("", 0, "", gr.Button(interactive=False), gr.Accordion(open=False), *(gr.Dropdown(choices=[""], value="") for _ in ROLES))
    try:
        columns = columns_of(Path(path))
    except WorkbenchError as error:
        return (cards.error_card(error), 0, gr.skip(), gr.Button(interactive=False), gr.skip(), *(gr.skip() for _ in ROLES))
    boxes = (gr.Dropdown(choices=["", *columns], value="") for _ in ROLES)
    return ("", 0, named_after(Path(path)), gr.Button(interactive=True, variant="primary"), gr.skip(), *boxes)


def _came(told: Told, own: int) -> tuple[Any, Any]:
    """What the end of this page's own work means: the data set that is there, or the mapper, which may be what was lacking."""
    status = told.status if told.number == own else ""
    over = {"finished": False, "failed": True}
    return told.name if status == "finished" else gr.skip(), gr.Accordion(open=over[status]) if status in over else gr.skip()


def shown(told: Told, own: int) -> tuple[str, str]:
    """How the latest work stands, for every page while it goes on, then for the page that began it (its number is `own`) alone; and a state
    that changes when work begins or ends."""
    state = f"{told.number} {told.status}"
    if told.status == "running":
        said = told.progress
        bar = cards.progress(said.done, said.total, said.what) if said else cards.progress(0, 0, "beginning")
        return f"<p><b>{cards.escaped(told.name)}</b></p>{bar}", state
    if told.number != own or not told.number:
        return "", state
    if told.status == "failed":
        return cards.error_card(WorkbenchError(told.error)), state
    if told.status == "stopped":
        return cards.note("Stopped. Nothing of it was kept."), state
    return cards.note(" ".join(["It is in the list now.", *told.said]), "watch" if told.said else "safe"), state
