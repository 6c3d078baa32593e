"""Deleting a data set that a person brought in or made, which the page asks about once more, in place.

Part of the Data tab. What comes with the program cannot be deleted. Ids: data-delete, data-delete-sure, data-delete-not.
"""

import shutil
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.workspace import Workspace
from workbench.jobs.curate import data_sets
from workbench.ui import cards, forms
from workbench.ui.bench import first_spec
from workbench.ui.context import Context

Draft = dict[str, Any]
ASKS = "Delete {} for good? Your own file stays where it is, and so does what runs have learnt from it."


def own(workspace: Workspace, name: str) -> bool:
    """Whether this is a data set of the workspace."""
    return any(choice.name == name and choice.where != "demo" for choice in data_sets(workspace))


def discard(workspace: Workspace, name: str) -> None:
    """Take a data set of the workspace away.

    Raises:
        WorkbenchError: it is none of the workspace's.
    """
    if not own(workspace, name):
        raise WorkbenchError(f"{name!r} is no data set of this workspace, so it cannot be deleted. Choose one of yours in the list.")
    shutil.rmtree(workspace.data(name))


def discarding(ctx: Context, draft: gr.State) -> None:
    """Draw the button, which is there where the data set in the draft can be deleted, and the question."""
    button = gr.Button("Delete this data set…", size="sm", visible=False, elem_id="data-delete", elem_classes=["quiet-button"])
    with gr.Column(visible=False, elem_classes=["card", "act"]) as confirm:
        asks = cards.place()
        with gr.Row(elem_classes=["actions"]):
            sure = gr.Button("Delete for good", variant="stop", size="sm", elem_id="data-delete-sure", scale=0, min_width=120)
            never = gr.Button("Keep it", size="sm", elem_id="data-delete-not", scale=0, min_width=80)

    def follow(held: Draft) -> tuple[Any, Any]:
        return gr.Button(visible=own(ctx.workspace, str(held.get("path")))), gr.Column(visible=False)

    def remove(held: Draft) -> Any:
        name = str(held.get("path"))
        try:
            discard(ctx.workspace, name)
        except WorkbenchError as error:  # another page was quicker
            gr.Warning(cards.escaped(error))
        mix = [part for part in held.get("mix", []) if part["path"] != name]
        return {**held, "path": first_spec()["data"]["path"], "columns": {}, "mix": mix}

    gr.on(None, follow, draft, [button, confirm], trigger_mode="always_last", **forms.READER)

    def asked(held: Draft) -> tuple[Any, Any, str]:
        return gr.Button(visible=False), gr.Column(visible=True), ASKS.format(cards.escaped(held["path"]))

    button.click(asked, draft, [button, confirm, asks], **forms.READER)
    never.click(lambda: (gr.Button(visible=True), gr.Column(visible=False)), None, [button, confirm], **forms.READER)
    sure.click(remove, draft, draft, **forms.WRITER)
