"""Bringing a file in: upload, name, a column mapper for files whose columns nobody can guess, progress, what was found.

Part of the Data tab. The file is read by `jobs.curate.ingest`; this module shows its events and keeps what was typed when
it fails, so that the columns can be said and the same file tried again.
Ids: data-upload, data-name, data-columns, data-column-ROLE, data-ingest, data-progress.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Progress, Table
from workbench.core.words import count
from workbench.jobs.columns import KINDS, ROLES, columns_of, named_after
from workbench.jobs.ingest import ingest
from workbench.ui import cards, forms
from workbench.ui.context import Context

REFRESH = 0.2  # seconds between two updates of the bar
MEANING = {
    "prompt": "what is asked",
    "answer": "what should be said",
    "input": "what belongs to the question",
    "system": "the system prompt",
    "text": "plain text, without question and answer",
    "messages": "a whole conversation",
}


def bring(ctx: Context) -> gr.State:
    """Draw the panel; the state holds the name of the data set that arrived last, and `.change` tells of it."""
    arrived = gr.State("")
    with gr.Accordion("Bring your own", open=False, elem_id="data-bring", elem_classes=["more"]):
        file = gr.File(
            label="JSONL, JSON, CSV, Parquet, Arrow or text", file_types=list(KINDS), height=120, interactive=True, elem_id="data-upload"
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
        says = cards.place(elem_id="data-progress")
        go = gr.Button("Bring it in", elem_id="data-ingest", interactive=False)
    boxes = list(roles.values())
    file.change(_look, [file], [says, name, go, mapper, *boxes], **forms.READER)
    go.click(_work(ctx), [file, name, *boxes], [says, arrived, mapper], trigger_mode="once", **forms.WRITER)
    return arrived


def _role(role: str) -> gr.Dropdown:
    return gr.Dropdown(
        choices=[""], value="", label=forms.sentence_case(role), info=MEANING[role], interactive=True, elem_id=f"data-column-{role}"
    )


def _look(path: str | None) -> tuple[Any, ...]:
    """A name from the file's name, and its columns for the mapper."""
    if not path:
        return ("", "", gr.Button(interactive=False), gr.Accordion(open=False), *(gr.Dropdown(choices=[""], value="") for _ in ROLES))
    try:
        columns = columns_of(Path(path))
    except WorkbenchError as error:
        return (cards.error_card(error), gr.skip(), gr.Button(interactive=False), gr.skip(), *(gr.skip() for _ in ROLES))
    boxes = (gr.Dropdown(choices=["", *columns], value="") for _ in ROLES)
    return ("", named_after(Path(path)), gr.Button(interactive=True, variant="primary"), gr.skip(), *boxes)


def _work(ctx: Context) -> Any:
    def work(path: str, name: str, *columns: str) -> Iterator[tuple[Any, Any, Any]]:
        chosen = {role: column for role, column in zip(ROLES, columns, strict=True) if column}
        last, rejected = 0.0, 0
        try:
            for event in ingest(Path(path), name.strip(), ctx.workspace, chosen):
                rejected = len(event.rows) if isinstance(event, Table) else rejected
                if isinstance(event, Made) or time.monotonic() - last >= REFRESH:
                    last = time.monotonic()
                    yield _said(event, rejected), (name.strip() if isinstance(event, Made) else gr.skip()), gr.skip()
        except WorkbenchError as error:
            yield cards.error_card(error), gr.skip(), gr.Accordion(open=True)

    return work


def _said(event: Event, rejected: int) -> str:
    if isinstance(event, Progress):
        return cards.progress(event.done, event.total, event.what)
    if isinstance(event, Made):
        problems = f" {count(rejected, 'row')} could not be read: see Problems." if rejected else ""
        return cards.note(f"It is in the list now.{problems}", "watch" if rejected else "safe")
    return cards.progress(0, 0, "reading")
