"""Bringing files in: upload, name, which column is which with the first row as it would be read, progress, what was found.

Part of the Data tab. The file is read by `jobs/ingest.py` in a thread of its own (`runs/errand.py`): no handler waits until it is done, it
goes on while the page is closed, and every page shows how far it is. What was typed stays when it fails, so that the columns can be said
and the same file tried again. Columns that are guessed are filled in before anything is brought in, and turned with one button.
Ids: data-bring, data-upload, data-name, data-columns, data-column-ROLE, data-turn, data-first-row, data-ingest, data-bring-says,
data-progress (event `stop`). Classes: first-row.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.jobs.columns import KINDS, ROLES, Foreseen, first_turns, foreseen, named_after
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
    "question": "what is asked, where no row has an answer: for asking models in Compare",
}


def bring(ctx: Context) -> tuple[gr.State, gr.HTML]:
    """Draw the panel. The state holds the name of the data set that this page brought in last, and `.change` tells of it; the piece's
    `moved` tells that any page's work began or ended."""
    arrived, mine = gr.State(""), gr.State(0)
    errand = Errand()
    with gr.Accordion("Bring your own", open=False, elem_id="data-bring", elem_classes=["more", "offer"]):
        file = gr.File(
            label="JSON, CSV, Parquet, text, .zip",
            file_types=list(KINDS),
            file_count="multiple",
            height=120,
            interactive=True,
            elem_id="data-upload",
        )
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
            turn = gr.Button("Turn prompt and answer round", size="sm", elem_id="data-turn", elem_classes=["quiet-button"])
        first = cards.place(elem_id="data-first-row")
        says = cards.card_place("data-bring-says")
        piece = polled(ctx.pulse, lambda own: shown(errand.told(), own), "data-progress", events=("stop",), value=0, around=AROUND)
        go = gr.Button("Bring it in", elem_id="data-ingest", interactive=False)
    boxes = list(roles.values())

    def begin(paths: list[str], typed: str, *columns: str) -> tuple[Any, ...]:
        given = [Path(path) for path in paths]
        try:
            work = ingest(given[0] if len(given) == 1 else given, typed.strip(), ctx.workspace, _chosen(columns))
            number = errand.start(typed.strip(), work)
        except WorkbenchError as error:
            return cards.error_card(error), *[gr.skip()] * 4
        return "", number, number, *_came(errand.wait(SOON), number)

    file.change(_look, [file], [says, piece, name, go, mapper, first, *boxes], **forms.READER)
    gr.on([box.input for box in boxes], _first_row, [file, *boxes], first, trigger_mode="always_last", **forms.READER)
    turned = [roles["prompt"], roles["answer"]]
    turn.click(lambda prompt, answer: (answer, prompt), turned, turned, **forms.READER).then(
        _first_row, [file, *boxes], first, **forms.READER
    )
    go.click(begin, [file, name, *boxes], [says, piece, mine, arrived, mapper], trigger_mode="once", **forms.WRITER)
    piece.moved(lambda own: _came(errand.told(), own), mine, [arrived, mapper], trigger_mode="always_last", **forms.WRITER)
    piece.stop(errand.stop, None, None, **forms.READER)
    return arrived, piece


def _chosen(columns: Sequence[str]) -> dict[str, str]:
    return {role: column for role, column in zip(ROLES, columns, strict=True) if column}


def _role(role: str) -> gr.Dropdown:
    return gr.Dropdown(
        choices=[""], value="", label=forms.sentence_case(role), info=MEANING[role], interactive=True, elem_id=f"data-column-{role}"
    )


def _look(paths: list[str] | None) -> tuple[Any, ...]:
    """A name from the file's name, how its rows would be read, and its columns for the mapper, filled in where they are guessed."""
    if not paths:
        boxes = (gr.Dropdown(choices=[""], value="") for _ in ROLES)
        return ("", 0, "", gr.Button(interactive=False), gr.Accordion(open=False), "", *boxes)
    path = Path(paths[0])
    try:
        seen = foreseen(path)
    except WorkbenchError as error:
        return (cards.error_card(error), 0, gr.skip(), gr.Button(interactive=False), gr.skip(), "", *(gr.skip() for _ in ROLES))
    guessed = seen.guess or {}
    boxes = (gr.Dropdown(choices=["", *seen.columns], value=guessed.get(role, "")) for role in ROLES)
    go, mapper = gr.Button(interactive=True, variant="primary"), gr.Accordion(open=bool(guessed) or not (seen.turns or not seen.columns))
    return (foretold(seen, len(paths)), 0, named_after(path), go, mapper, first_row(seen.turns), *boxes)


def foretold(seen: Foreseen, files: int = 1) -> str:
    """What a person should know before the file is brought in."""
    said = [hint.text for hint in seen.hints]
    said += [] if seen.turns or not seen.columns else ["No row at its beginning can be read as it is. Say which column is which."]
    said += [f"{files} files become one data set; this is how the first of them is read."] if files > 1 else []
    return "".join(cards.note(text, "watch" if seen.hints or not seen.turns else "") for text in said)


def _first_row(paths: list[str] | None, *columns: str) -> str:
    """The first row, read with the columns that are chosen now."""
    if not paths:
        return ""
    try:
        return first_row(first_turns(Path(paths[0]), _chosen(columns)))
    except WorkbenchError as error:
        return cards.error_card(error)


def first_row(turns: Sequence[tuple[str, str]]) -> str:
    """Who says what in it."""
    said = "".join(f"<dt>{cards.escaped(role)}</dt><dd>{cards.escaped(text)}</dd>" for role, text in turns)
    return f'<div class="first-row"><p class="quiet">The first row, as it would be read</p><dl>{said}</dl></div>' if said else ""


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
