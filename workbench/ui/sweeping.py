"""Several runs at once: the run on the bench with some values of one setting, put into the queue one after the other.

Part of the Train tab. What it is not: the runs (`jobs/sweep.py`), or their comparison, which is the Runs tab's.
Elements for tests: `vary vary-name vary-values vary-go vary-says`.
"""

from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.core.words import count
from workbench.jobs.audit import refuse
from workbench.jobs.sweep import settings, several, swept
from workbench.ui import cards
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.forms import READER, WRITER
from workbench.ui.refresh import relisted


def sweeping(ctx: Context, bench: Bench) -> None:
    """The panel, drawn where this is called."""
    with gr.Accordion("Vary one setting", open=False, elem_id="vary", elem_classes=["group"]) as panel:
        name = gr.Dropdown([], label="Setting", elem_id="vary-name", interactive=True)
        values = gr.Textbox(
            label="Values", info="With commas between them, a run for each", max_lines=1, elem_id="vary-values", interactive=True
        )
        go = gr.Button("Queue the runs", size="sm", elem_id="vary-go")
        says = gr.HTML(elem_id="vary-says", apply_default_css=False)
    gr.on([panel.expand, bench.loaded.change], renewed, [bench.spec, name], [name, values], **READER)
    name.input(lambda spec, chosen: listed(spec, chosen)[1], [bench.spec, name], values, trigger_mode="always_last", **READER)
    gr.on([go.click, values.submit], lambda *given: queue(ctx, *given), [bench.spec, name, values], says, **WRITER)


def offered(spec: dict[str, Any], chosen: str | None) -> tuple[list[tuple[str, str]], str, str] | None:
    """The settings of the spec on the bench, the one that is chosen or else the learning rate, and its present value."""
    try:
        found = settings(TrainSpec.parse(spec))
    except WorkbenchError:  # what is wrong with it stands under Start
        return None
    held = chosen if chosen in found else "update.lr"
    names = [(known.replace("_", " ").replace(".", ": "), known) for known in found]
    value = found[held]
    return names, held, f"{value:g}" if isinstance(value, float) else str(value)


def listed(spec: dict[str, Any], chosen: str | None) -> tuple[Any, Any]:
    """The list with the setting that is chosen, and its present value."""
    known = offered(spec, chosen)
    return (gr.Dropdown(known[0], value=known[1]), known[2]) if known else (gr.skip(), gr.skip())


def renewed(spec: dict[str, Any], chosen: str | None) -> tuple[Any, Any]:
    """The list of another spec; what is chosen and typed stays, unless the spec has no such setting."""
    known = offered(spec, chosen)
    if known is None:
        return gr.skip(), gr.skip()
    names, held, value = known
    return relisted(names, chosen, held), gr.skip() if held == chosen else value


def queue(ctx: Context, spec: dict[str, Any], name: str | None, typed: str) -> str:
    """Every run or none: the mistakes of all of them are said before the first is queued."""
    try:
        runs = swept(TrainSpec.parse(spec), name or "update.lr", several(typed))
        for run in runs:
            refuse(run, ctx.workspace)
        for run in runs:
            ctx.runner.submit(run)
    except cards.PROBLEMS as error:
        return cards.problem(error)
    return f'<p class="quiet">{count(len(runs), "run")} {"is" if len(runs) == 1 else "are"} queued. Compare them on the Runs tab.</p>'
