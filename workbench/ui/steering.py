"""Steering a run at work: save, evaluate or answer now, and go on with another learning rate, bound or interval.

Every wish goes the way a shell takes (`jobs/steering.py`); what came of it stands in the notes and on the curve.
Elements for tests: `steer-save steer-evaluate steer-sample steer-name steer-value steer-change`.
"""

from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.settings import setting
from workbench.jobs.steering import Wish, present, wish
from workbench.ui.cards import escaped
from workbench.ui.context import Context
from workbench.ui.forms import READER, WRITER
from workbench.ui.refresh import relisted

DEEDS = (("save", "Save now"), ("evaluate", "Evaluate now"), ("sample", "Answer now"))


def steering_wheel(ctx: Context, shown: gr.Dropdown) -> gr.Accordion:
    """The panel, drawn where this is called; `shown` holds the run that is steered."""
    with gr.Accordion("Steer this run", open=False, visible=False, elem_id="steer", elem_classes=["group"]) as panel:
        with gr.Row(elem_classes=["steer-row"]):
            for deed, label in DEEDS:
                button = gr.Button(label, size="sm", elem_id=f"steer-{deed}", min_width=110)
                button.click(lambda run, deed=deed: ask(ctx, run, Wish(do=deed)), shown, None, **WRITER)
        with gr.Row(elem_classes=["steer-row"]):
            name = gr.Dropdown([], label="Setting", elem_id="steer-name", scale=3, min_width=170)
            value = gr.Textbox(label="From the next step", elem_id="steer-value", max_lines=1, scale=2, min_width=110)
            change = gr.Button("Change", size="sm", elem_id="steer-change", scale=1, min_width=80)
    gr.on([panel.expand, shown.change], lambda run, name: settings(ctx, run, name), [shown, name], [name, value], **READER)
    name.input(lambda run, name: now(values(ctx, run).get(name, ""), value=""), [shown, name], value, trigger_mode="always_last", **READER)
    gr.on(
        [change.click, value.submit], lambda run, name, typed: change_to(ctx, run, f"{name}={typed}"), [shown, name, value], None, **WRITER
    )
    return panel


def values(ctx: Context, run: str | None) -> dict[str, str]:
    """What may change of a run, as people write it."""
    if not run:
        return {}
    try:
        found = present(ctx.workspace.run(run), ctx.store.run(run).step)
    except WorkbenchError:  # deleted in another page
        return {}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in found.items()}


def settings(ctx: Context, run: str | None, name: str | None) -> tuple[Any, Any]:
    """The list of settings, and what holds of the one that is chosen.

    What a person has chosen or typed stays: the answer may come after it.
    """
    found = values(ctx, run)
    wanted = name if name in found else next(iter(found), None)
    names = [(key.replace("_", " ").replace(".", ": "), key) for key in found]
    return relisted(names, name, wanted), now(found.get(wanted or "", ""))


def now(holds: str, **more: str) -> Any:
    """The box for another value: what holds stands in it in grey."""
    return gr.Textbox(placeholder=f"now {holds}" if holds else "", **more)


def change_to(ctx: Context, run: str | None, typed: str) -> None:
    """Ask for `name=value` from the next step on; a mistake is a warning."""
    try:
        wanted = Wish(set=dict([setting(typed)]))
    except WorkbenchError as error:
        gr.Warning(escaped(error))
    else:
        ask(ctx, run, wanted)


def ask(ctx: Context, run: str | None, wanted: Wish) -> None:
    """Leave the wish; a mistake is a warning, and nothing was asked."""
    try:
        wish(ctx.workspace.run(run or ""), wanted)
    except WorkbenchError as error:
        gr.Warning(escaped(error))
    else:
        gr.Info("Asked. It is done after the step at work.")
