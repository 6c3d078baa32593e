"""Asking the models of the Compare tab all questions of a data set: a run of its own, which the Runs tab then shows answer by answer.

Drawn when it is asked for. What counts as right is `evaluating.py`'s form, what comes of it `found.py`'s. Ids: compare-batch,
compare-batch-sets, compare-batch-KNOB, compare-batch-go, compare-batch-says.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.asking import EvaluateSpec
from workbench.core.errors import SpecError, WorkbenchError
from workbench.jobs.curate import data_sets
from workbench.ui import cards, forms
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.evaluating import KNOBS


def build(ctx: Context, bench: Bench, models: gr.Dropdown) -> None:
    """Draw the button, and below it what it opens."""
    shown = gr.State(False)
    button = gr.Button("Ask a whole data set…", size="sm", elem_id="compare-batch", scale=0, min_width=180)
    button.click(lambda before: not before, shown, shown, **forms.WRITER)

    @gr.render(inputs=[shown], **forms.DRAWN)
    def draw(is_shown: bool) -> None:
        if is_shown:
            with gr.Column(elem_classes=["card"]):
                _panel(ctx, bench, models)


def _panel(ctx: Context, bench: Bench, models: gr.Dropdown) -> None:
    sets = gr.Dropdown(
        [choice.name for choice in data_sets(ctx.workspace)], label="Data sets", multiselect=True, allow_custom_value=True,
        interactive=True, info="All of their questions, or as many as below, with the answers side by side", elem_id="compare-batch-sets",
    )  # fmt: skip
    widgets = forms.fields(KNOBS, {}, "compare-batch")
    says = cards.card_place("compare-batch-says")
    go = gr.Button("Ask them all", variant="primary", size="sm", elem_id="compare-batch-go", scale=0, min_width=120)

    def start(given: dict[Component, Any]) -> tuple[Any, ...]:
        try:
            how = forms.collect(KNOBS, {name: given[widget] for name, widget in widgets.items()})
            return "", ctx.runner.submit(spec_of(given[models] or [], given[sets] or [], how)), gr.Tabs(selected="runs")
        except WorkbenchError as mistake:
            return cards.error_card(mistake), gr.skip(), gr.skip()

    go.click(start, {models, sets, *widgets.values()}, [says, bench.opened, bench.tabs], **forms.WRITER)


def spec_of(models: Sequence[str], sets: Sequence[str], how: Mapping[str, Any]) -> EvaluateSpec:
    """The questions of these sets to these models, or all that is missing in words."""
    mistakes = [] if models else ["no model is chosen; choose one or more above"]
    mistakes += [] if sets else ["no data set is chosen; choose one or more"]
    if mistakes:
        raise SpecError(mistakes)
    given = {"name": f"{', '.join(sets)} asked", "models": list(dict.fromkeys(models)), "sets": [{"data": name, **how} for name in sets]}
    return EvaluateSpec.parse({**given, "name": given["name"][:80]})  # type: ignore[return-value]
