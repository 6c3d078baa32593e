"""Asking what a run or a merge made the questions of data sets, beside other models; and the report of what it learnt and lost.

Part of the Runs tab, below the buttons of the opened run. Either is a run of its own and opened as soon as it begins; what came of it is
drawn by `found.py`. Ids: run-evaluate-sets, run-evaluate-beside, run-evaluate-KNOB, run-evaluate-go, run-evaluate-report,
run-evaluate-leave, run-evaluate-says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.asking import EvaluateSpec, EvaluationSet, ReportSpec
from workbench.core.errors import WorkbenchError
from workbench.core.method import knobs_of
from workbench.core.parts import Spec
from workbench.jobs.curate import data_sets
from workbench.jobs.estimate import choices
from workbench.runs.records import Run
from workbench.ui import cards, forms
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.folding import reference

KNOBS = [knob for knob in knobs_of(EvaluationSet) if knob.name != "data"]


@dataclass(frozen=True)
class Panel:
    """What is drawn; `asked` is open while sets are being chosen, `says` holds what was wrong with them."""

    asked: gr.Column
    sets: gr.Dropdown
    beside: gr.Dropdown
    widgets: Mapping[str, Component]
    evaluate: gr.Button
    report: gr.Button
    leave: gr.Button
    says: gr.HTML


def panel(ctx: Context) -> Panel:
    with gr.Column(visible=False, elem_classes=["card"], elem_id="run-evaluating") as asked:
        with gr.Row():
            sets = gr.Dropdown(
                [], label="Data sets", multiselect=True, interactive=True, allow_custom_value=True, elem_id="run-evaluate-sets",
                info="Their questions; none takes what the run held back, and for the demo model its own skills",
            )  # fmt: skip
            beside = gr.Dropdown(
                [], label="Beside it", multiselect=True, interactive=True, allow_custom_value=True, elem_id="run-evaluate-beside",
                info="Models that answer too; its base always does",
            )  # fmt: skip
        widgets = forms.fields(KNOBS, {}, "run-evaluate")
        says = cards.card_place("run-evaluate-says")
        with gr.Row(elem_classes=["actions"]):
            report = gr.Button("Report what it learnt and lost", variant="primary", size="sm", elem_id="run-evaluate-report", scale=0)
            evaluate = gr.Button("Only ask", size="sm", elem_id="run-evaluate-go", scale=0, min_width=90)
            leave = gr.Button("Leave it", size="sm", elem_id="run-evaluate-leave", scale=0, min_width=90)
    sets.focus(lambda: gr.Dropdown([choice.name for choice in data_sets(ctx.workspace)]), None, sets, **forms.READER)
    beside.focus(lambda: gr.Dropdown([(label, name) for name, label in choices(ctx.workspace)]), None, beside, **forms.READER)
    return Panel(asked, sets, beside, widgets, evaluate, report, leave, says)


def evaluation_of(run: Run, base: str, sets: Sequence[str], beside: Sequence[str], how: Mapping[str, Any]) -> EvaluateSpec:
    """The base, what the run made, and other models are asked the questions of these sets.

    Raises:
        SpecError: a pattern is none, or there are too many models.
    """
    models = list(dict.fromkeys([base, reference(run), *beside]))
    given = {"name": f"{reference(run).replace(':', ' ')} asked", "models": models, "sets": [{"data": name, **how} for name in sets]}
    return EvaluateSpec.parse(given)  # type: ignore[return-value]


def report_of(run: Run, base: str, sets: Sequence[str], beside: Sequence[str], how: Mapping[str, Any]) -> ReportSpec:
    """As `evaluation_of`, and where in the network the change sits; of one model alone."""
    given = {"model": reference(run), "base": base, "sets": [{"data": name, **how} for name in sets]}
    return ReportSpec.parse({"name": f"Report of {reference(run).replace(':', ' ')}", **given})  # type: ignore[return-value]


def base_of(run: Run) -> str:
    return str(run.spec["base" if run.kind == "merge" else "model"])


def wire(ctx: Context, bench: Bench, button: gr.Button, drawn: Panel) -> None:
    """`button` opens the panel; what is begun is opened."""

    def starting(wanted: Callable[..., Spec]) -> Callable[..., tuple[Any, ...]]:
        def start(given: dict[Component, Any]) -> tuple[Any, ...]:
            try:
                run = ctx.store.run(given[bench.opened])
                how = forms.collect(KNOBS, {name: given[widget] for name, widget in drawn.widgets.items()})
                begun = ctx.runner.submit(wanted(run, base_of(run), given[drawn.sets] or [], given[drawn.beside] or [], how))
            except WorkbenchError as mistake:
                return cards.error_card(mistake), gr.skip(), gr.skip()
            return "", gr.Column(visible=False), begun

        return start

    inputs = {bench.opened, drawn.sets, drawn.beside, *drawn.widgets.values()}
    outputs = [drawn.says, drawn.asked, bench.opened]
    button.click(lambda: (gr.Column(visible=True), ""), None, [drawn.asked, drawn.says], **forms.READER)
    drawn.evaluate.click(starting(evaluation_of), inputs, outputs, **forms.WRITER)
    drawn.report.click(starting(report_of), inputs, outputs, **forms.WRITER)
    drawn.leave.click(lambda: (gr.Column(visible=False), ""), None, [drawn.asked, drawn.says], **forms.READER)
