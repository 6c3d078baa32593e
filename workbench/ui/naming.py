"""Another name for a run that is over: in the lists, and where models are chosen, which read it in the run's folder.

Part of the Runs tab, below the buttons of the opened run. Ids: run-name-text, run-name-go, run-name-leave, run-name-says.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr
import yaml

from workbench.core.errors import WorkbenchError
from workbench.core.workspace import Workspace
from workbench.runs.records import LIVE, Run
from workbench.runs.store import Store
from workbench.ui import cards
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.forms import READER, WRITER

LONGEST = 80  # as in a spec


@dataclass(frozen=True)
class Panel:
    """What is drawn; `asked` is open while a name is wanted, `says` stands below it."""

    asked: gr.Row
    text: gr.Textbox
    go: gr.Button
    leave: gr.Button
    says: gr.HTML


def offers(run: Run | None) -> bool:
    """Whether the run is over, and its name is its own: what a merge is called is the name of its model."""
    return run is not None and run.status not in LIVE and run.kind != "merge"


def renamed(store: Store, workspace: Workspace, run_id: str, name: str) -> None:
    """Write the name where runs are listed and where models are.

    Raises:
        WorkbenchError: the name is too long, or there is no such run.
    """
    if len(name) > LONGEST:
        raise WorkbenchError(f"The name has {len(name)} characters, and lists have room for {LONGEST}. Shorten it.")
    store.rename(run_id, name)
    path = workspace.run(run_id) / "spec.yaml"
    if path.exists():
        new = path.with_suffix(".new")
        new.write_text(yaml.safe_dump({**store.run(run_id).spec, "name": name}, sort_keys=False, allow_unicode=True), encoding="utf-8")
        new.replace(path)


def panel() -> Panel:
    with gr.Row(visible=False, elem_classes=["card", "actions"]) as asked:
        text = gr.Textbox(
            label="Name of the run", max_lines=1, max_length=LONGEST, interactive=True, elem_id="run-name-text", min_width=240
        )
        go = gr.Button("Rename", variant="primary", size="sm", elem_id="run-name-go", scale=0, min_width=90)
        leave = gr.Button("Leave it", size="sm", elem_id="run-name-leave", scale=0, min_width=90)
    return Panel(asked, text, go, leave, cards.card_place("run-name-says"))


def wire(ctx: Context, bench: Bench, button: gr.Button, drawn: Panel) -> None:
    """`button` opens the panel."""

    def begin(run_id: str) -> tuple[Any, Any, str]:
        return gr.Row(visible=True), ctx.store.run(run_id).name, ""

    def work(run_id: str, name: str) -> tuple[Any, str]:
        try:
            renamed(ctx.store, ctx.workspace, run_id, (name or "").strip())
        except WorkbenchError as error:
            return gr.skip(), cards.error_card(error)
        return gr.Row(visible=False), ""

    button.click(begin, bench.opened, [drawn.asked, drawn.text, drawn.says], **READER)
    gr.on([drawn.go.click, drawn.text.submit], work, [bench.opened, drawn.text], [drawn.asked, drawn.says], trigger_mode="once", **WRITER)
    drawn.leave.click(lambda: (gr.Row(visible=False), ""), None, [drawn.asked, drawn.says], **READER)
