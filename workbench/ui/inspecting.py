"""Inspecting what a run or a merge made: which inspection, its settings and cost, which other models beside it.

Part of the Runs tab, below the buttons of the opened run, drawn when it is asked for (`closer.py`). An inspection is a run of its own, and
is opened as soon as it begins; what it found is drawn by `found.py`. Ids: run-inspect-which, run-inspect-also, run-inspect-cost,
run-inspect-go, inspect-NAME-KNOB.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.method import Method, find
from workbench.core.spec import InspectSpec
from workbench.jobs.curate import data_sets
from workbench.runs.records import Run
from workbench.ui import cards, forms
from workbench.ui.closer import Closer, beside
from workbench.ui.folding import reference


def first() -> str:
    """The inspection that is offered first."""
    return InspectSpec(models=["pocket"]).inspection.name


def panel(closer: Closer, name: str) -> None:
    """Draw the form of this inspection and its buttons, inside `gr.render`."""
    with gr.Row():
        which = gr.Dropdown(
            forms.method_choices("inspections"), value=name, label="Inspection", interactive=True, elem_id="run-inspect-which",
            info="What tuning did to the model", key="run-inspect-which", preserved_by_key=[],
        )  # fmt: skip
        also = beside(closer, "run-inspect-also", "Other models of the same base, held against it")
    names = {"data": [choice.name for choice in data_sets(closer.ctx.workspace)]}
    widgets = forms.method_block("inspections", {"method": name}, "inspect", names)
    cost = cards.place(_cost(find("inspections", name)()), "run-inspect-cost")
    with gr.Row(elem_classes=["actions"]):
        go = gr.Button("Inspect", variant="primary", size="sm", elem_id="run-inspect-go", scale=0, min_width=90)
        closer.leave()
    which.input(lambda chosen: chosen, which, closer.inspection, trigger_mode="always_last", **forms.WRITER)

    def wanted(run: Run, given: Mapping[Component, Any]) -> InspectSpec:
        return spec_of(run, given[also], forms.method_from("inspections", name, widgets, given))

    def moved(given: dict[Component, Any]) -> tuple[str, str]:
        return "", _cost(_method(forms.method_from("inspections", name, widgets, given)))

    # not `change`: a text box that is drawn again raises it, and asks for the handler of the form before, which is gone
    touched = [widget.blur if isinstance(widget, gr.Textbox) else widget.input for widget in widgets.values()]
    if touched:
        gr.on(touched, closer.said(moved), {*widgets.values()}, [closer.says, cost], trigger_mode="always_last", **forms.READER)
    closer.starts(go, wanted, {also, *widgets.values()})


def _method(chosen: Mapping[str, Any]) -> Method:
    return find("inspections", chosen["method"])(**{name: value for name, value in chosen.items() if name != "method"})


def _cost(method: Method) -> str:
    return f'<p class="quiet">{cards.escaped(method.costs())}</p>'


def spec_of(run: Run, also: Sequence[str] | None, chosen: Mapping[str, Any]) -> InspectSpec:
    """The inspection of what a run made, and of other models beside it."""
    models = list(dict.fromkeys([reference(run), *(also or [])]))
    name = f"{find('inspections', chosen['method']).title()} of {reference(run).replace(':', ' ')}"
    return InspectSpec.parse({"name": name, "models": models, "inspection": dict(chosen)})  # type: ignore[return-value]
