"""What a recipe keeps, made into something: a data set of the workspace, or a folder for other programs that can be fetched as one file.

Part of the Data tab. The work is `jobs/deriving.py`'s; this module shows its events. Exports lie in the workspace under exports/.
Ids: data-keep, data-keep-name, data-keep-as, data-keep-go, data-keep-says, data-keep-file.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.core.events import Event, Made, Noted, Progress
from workbench.core.parts import DataSpec
from workbench.core.workspace import named
from workbench.jobs.deriving import derive, exported
from workbench.jobs.exporting import forms as export_forms
from workbench.ui import cards, forms
from workbench.ui.context import Context

REFRESH = 0.2  # seconds between two updates of the bar
HERE = "data set"
Draft = dict[str, Any]


def build(ctx: Context, draft: gr.State, model: gr.State) -> None:
    """Draw the section, its inside when it is opened for the first time."""
    seen = gr.State(False)
    with gr.Accordion("Keep or export", open=False, elem_id="data-keep", elem_classes=["more"]) as panel:

        @gr.render(inputs=[seen], triggers=[seen.change], **forms.DRAWN)
        def drawn(opened: bool) -> None:
            if opened:
                _inside(ctx, draft, model)

    panel.expand(lambda: True, None, seen, **forms.WRITER)


def _inside(ctx: Context, draft: gr.State, model: gr.State) -> None:
    name = gr.Textbox(label="Name", max_lines=1, interactive=True, elem_id="data-keep-name", info="What is kept is called so")
    form = gr.Dropdown(
        [("A data set of the workspace", HERE), *((f"{forms.in_words(name)}: {about}", name) for name, about in export_forms())],
        value=HERE, label="As", interactive=True, elem_id="data-keep-as",
    )  # fmt: skip
    go = gr.Button("Keep what stays", elem_id="data-keep-go")
    says = cards.place(elem_id="data-keep-says")
    file = gr.File(label="The export as one file", visible=False, interactive=False, elem_id="data-keep-file")
    made = gr.State("")  # the data set that was made last; the draft may have changed while it was
    go.click(_work(ctx), [draft, model, name, form], [says, file, made], trigger_mode="once", **forms.WRITER)
    made.change(lambda name, held: _shown(held, name) if name else held, [made, draft], draft, **forms.WRITER)


def _work(ctx: Context) -> Any:
    def work(held: Draft, model: str, name: str, form: str) -> Iterator[tuple[Any, Any, Any]]:
        last, told = 0.0, list[str]()
        try:
            spec: Any = DataSpec.parse(held)
            for event in _events(ctx, spec, model, name.strip(), form):
                told += [event.text] if isinstance(event, Noted) else []
                if isinstance(event, Made):
                    yield _made(event, form, told), _packed(event, form), name.strip() if form == HERE else gr.skip()
                elif isinstance(event, Progress) and time.monotonic() - last >= REFRESH:
                    last = time.monotonic()
                    yield cards.progress(event.done, event.total, event.what), gr.skip(), gr.skip()
        except cards.PROBLEMS as error:
            yield cards.problem(error), gr.skip(), gr.skip()

    return work


def _events(ctx: Context, spec: DataSpec, model: str, name: str, form: str) -> Iterator[Event]:
    if form == HERE:
        return derive(spec, name, ctx.workspace, model)
    return exported(spec, ctx.workspace.home.resolve() / "exports" / named(name), form, ctx.workspace, model)


def _made(made: Made, form: str, told: list[str]) -> str:
    where = "It is in the list of data sets now, and its rows are shown." if form == HERE else f"It lies in {made.path}."
    return cards.note(" ".join([where, *told]), "safe")


def _packed(made: Made, form: str) -> Any:
    """The folder as one file outside the workspace, where the server may hand it out."""
    if form == HERE:
        return gr.File(visible=False)
    packed = Path(tempfile.mkdtemp(prefix="workbench-export-")) / Path(made.path).name
    return gr.File(shutil.make_archive(str(packed), "zip", made.path), visible=True)


def _shown(held: Draft, name: str) -> Draft:
    """The data set that was made is the one that is looked at, without the steps, which are done, and once."""
    mix = [part for part in held.get("mix", []) if part["path"] != name]
    return {**held, "path": name, "columns": {}, "selectors": [], "mix": mix}
