"""Inspecting what a run or a merge made: which inspection, its settings and cost, which other models beside it.

Part of the Runs tab, below the buttons of the opened run. An inspection is a run of its own, and is opened as soon as it begins; what it
found is drawn by `found.py`. Ids: run-inspect-which, run-inspect-also, run-inspect-go, run-inspect-leave, run-inspect-says,
inspect-NAME-KNOB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.errors import WorkbenchError
from workbench.core.method import Method, find
from workbench.core.spec import InspectSpec
from workbench.jobs.curate import data_sets
from workbench.jobs.estimate import choices
from workbench.runs.records import Run
from workbench.ui import cards, forms
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.folding import reference

FIRST = "weight_change"


@dataclass(frozen=True)
class Panel:
    """What is drawn; `asked` is open while an inspection is being chosen, `says` holds what was wrong with it."""

    asked: gr.Column
    which: gr.Dropdown
    also: gr.Dropdown
    chosen: gr.State
    go: gr.Button
    leave: gr.Button
    says: gr.HTML


def panel(ctx: Context) -> Panel:
    chosen = gr.State({"method": FIRST})
    with gr.Column(visible=False, elem_classes=["card"], elem_id="run-inspecting") as asked:
        with gr.Row():
            which = gr.Dropdown(
                forms.method_choices("inspections"), value=FIRST, label="Inspection", interactive=True, elem_id="run-inspect-which",
                info="What tuning did to the model",
            )  # fmt: skip
            also = gr.Dropdown(
                [], label="Beside it", multiselect=True, interactive=True, allow_custom_value=True, elem_id="run-inspect-also",
                info="Other models of the same base, held against it",
            )  # fmt: skip
        _form(ctx, which, chosen)
        says = cards.card_place("run-inspect-says")
        with gr.Row(elem_classes=["actions"]):
            go = gr.Button("Inspect", variant="primary", size="sm", elem_id="run-inspect-go", scale=0, min_width=90)
            leave = gr.Button("Leave it", size="sm", elem_id="run-inspect-leave", scale=0, min_width=90)
    which.input(lambda name: find("inspections", name)().chosen(), which, chosen, **forms.WRITER)
    also.focus(lambda: gr.Dropdown([(label, reference) for reference, label in choices(ctx.workspace)]), None, also, **forms.READER)
    return Panel(asked, which, also, chosen, go, leave, says)


def _form(ctx: Context, which: gr.Dropdown, chosen: gr.State) -> None:
    """The inspection's settings and what it costs, drawn when it is chosen; `chosen` follows them."""

    @gr.render(inputs=[which], **forms.DRAWN)
    def form(name: str) -> None:
        names = {"data": [choice.name for choice in data_sets(ctx.workspace)]}
        widgets = forms.method_block("inspections", {"method": name}, "inspect", names)
        cost = cards.place(_cost(find("inspections", name)()), "run-inspect-cost")

        def moved(given: dict[Component, Any]) -> tuple[str, Any]:
            try:
                wanted = forms.method_from("inspections", name, widgets, given)
                return _cost(_method(wanted)), wanted
            except WorkbenchError as mistake:
                return cards.error_card(mistake), gr.skip()

        forms.on_input(widgets, moved, [cost, chosen])


def _method(chosen: Mapping[str, Any]) -> Method:
    return find("inspections", chosen["method"])(**{name: value for name, value in chosen.items() if name != "method"})


def _cost(method: Method) -> str:
    return f'<p class="quiet">{cards.escaped(method.costs())}</p>'


def spec_of(run: Run, also: list[str] | None, chosen: Mapping[str, Any]) -> InspectSpec:
    """The inspection of what a run made, and of other models beside it.

    Raises:
        SpecError: a model is named twice.
    """
    models = list(dict.fromkeys([reference(run), *(also or [])]))
    name = f"{find('inspections', chosen['method']).title()} of {reference(run).replace(':', ' ')}"
    return InspectSpec.parse({"name": name, "models": models, "inspection": dict(chosen)})  # type: ignore[return-value]


def offers(run: Run | None) -> bool:
    """Whether the run is over and made something that can be inspected."""
    return run is not None and run.kind in ("train", "merge") and run.status in ("finished", "stopped")


def wire(ctx: Context, bench: Bench, button: gr.Button, drawn: Panel) -> None:
    """`button` opens the panel; the inspection is opened when it has begun."""

    def start(run_id: str, also: list[str], chosen: dict[str, Any]) -> tuple[Any, ...]:
        try:
            begun = ctx.runner.submit(spec_of(ctx.store.run(run_id), also, chosen))
        except WorkbenchError as mistake:
            return cards.error_card(mistake), gr.skip(), gr.skip()
        return "", gr.Column(visible=False), begun

    button.click(lambda: (gr.Column(visible=True), ""), None, [drawn.asked, drawn.says], **forms.READER)
    drawn.go.click(start, [bench.opened, drawn.also, drawn.chosen], [drawn.says, drawn.asked, bench.opened], **forms.WRITER)
    drawn.leave.click(lambda: (gr.Column(visible=False), ""), None, [drawn.asked, drawn.says], **forms.READER)
