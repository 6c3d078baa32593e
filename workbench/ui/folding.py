"""A run's adapter and its base as one model of the workspace: the name it is to have, the bar, and where it is then.

Part of the Runs tab, below the buttons of the opened run; the work is `jobs/fold.py`'s. A page that is closed, or that does not want it any
more, ends it within its next sign of life. Ids: run-fold-name, run-fold-go, run-fold-leave, run-fold-says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.core.beside import foldable
from workbench.jobs.fold import fold
from workbench.runs.records import Run
from workbench.ui import cards
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.counting import Wishes
from workbench.ui.forms import READER, WRITER
from workbench.ui.watching import watched


@dataclass(frozen=True)
class Panel:
    """What is drawn; `asked` is open while a name is wanted, `says` stands below it."""

    asked: gr.Row
    name: gr.Textbox
    go: gr.Button
    leave: gr.Button
    says: gr.HTML


def reference(run: Run) -> str:
    """What a run made, as specs name it."""
    return f"model:{run.spec['name']}" if run.kind == "merge" else f"run:{run.id}"


def offers(ctx: Context, run: Run | None) -> bool:
    """Whether the run is over and left an adapter that can be saved with its base."""
    over = run is not None and run.status in ("finished", "stopped")
    return over and any(made.what == "adapter" and foldable(Path(made.path)) for made in ctx.store.made(run.id))


def panel() -> Panel:
    with gr.Row(visible=False, elem_classes=["card", "actions"]) as asked:
        with gr.Column(min_width=260):
            cards.place("Its adapter and its base as one ordinary model, called")
        with gr.Column(min_width=160):
            name = gr.Textbox(label="Name of the new model", show_label=False, max_lines=1, interactive=True, elem_id="run-fold-name")
        go = gr.Button("Save", variant="primary", size="sm", elem_id="run-fold-go", scale=0, min_width=90)
        leave = gr.Button("Leave it", size="sm", elem_id="run-fold-leave", scale=0, min_width=90)
    return Panel(asked, name, go, leave, cards.card_place("run-fold-says"))


def wire(ctx: Context, bench: Bench, button: gr.Button, drawn: Panel) -> None:
    """`button` opens the panel."""
    wishes = Wishes()

    def work(run_id: str, name: str, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        yield from saved(ctx, run_id, name.strip(), wishes, str(request.session_hash))

    def left(request: gr.Request) -> tuple[Any, Any]:
        wishes.begin(str(request.session_hash))
        return gr.Row(visible=False), ""

    button.click(lambda run_id: (gr.Row(visible=True), f"run-{run_id}", ""), bench.opened, [drawn.asked, drawn.name, drawn.says], **READER)
    gr.on([drawn.go.click, drawn.name.submit], work, [bench.opened, drawn.name], [drawn.asked, drawn.says], trigger_mode="once", **WRITER)
    drawn.leave.click(left, None, [drawn.asked, drawn.says], **READER)


def saved(ctx: Context, run_id: str, name: str, wishes: Wishes, page: str) -> Iterator[tuple[Any, Any]]:
    """(the panel, what is said): a bar, in the end where the model is; nothing more once the page wishes otherwise."""
    wanted = wishes.begin(page)
    yield gr.skip(), cards.progress(0, 0, "reading the base and its adapter")
    try:
        for found in watched(fold(reference(ctx.store.run(run_id)), name, ctx.workspace), wanted):
            if isinstance(found, Path):
                said = f"{name} is saved in {found}. Merge and Compare list it, and Train can start from it."
                yield gr.Row(visible=False), cards.note(said, "safe")
            else:
                yield gr.skip(), found
    except cards.PROBLEMS as error:
        if wanted():
            yield gr.skip(), cards.problem(error)
