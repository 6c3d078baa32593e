"""Asking what a run or a merge made the questions of data sets, beside other models; and the report of what it learnt and lost.

Part of the Runs tab, below the buttons of the opened run, drawn when it is asked for (`closer.py`). Either is a run of its own and opened
as soon as it begins; what came of it is drawn by `found.py`. Ids: run-evaluate-sets, run-evaluate-beside, run-evaluate-tasks,
run-evaluate-KNOB, run-evaluate-go, run-evaluate-report.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.asking import EvaluateSpec, EvaluationSet, ReportSpec
from workbench.core.method import knobs_of
from workbench.core.parts import Spec
from workbench.jobs.curate import data_sets
from workbench.runs.records import Run
from workbench.ui import forms
from workbench.ui.closer import Closer, beside
from workbench.ui.folding import reference

KNOBS = [knob for knob in knobs_of(EvaluationSet) if knob.name != "data"]


def panel(closer: Closer) -> None:
    """Draw the choice of sets and its buttons, inside `gr.render`."""
    with gr.Row():
        sets = gr.Dropdown(
            [choice.name for choice in data_sets(closer.ctx.workspace)], label="Data sets", multiselect=True, interactive=True,
            info="Their questions; none takes what the run held back, and for the demo model its own skills",
            allow_custom_value=True, elem_id="run-evaluate-sets", key="run-evaluate-sets",
        )  # fmt: skip
        also = beside(closer, "run-evaluate-beside", "Models that answer too, where it is only asked; its base always does")
        tasks = gr.Textbox(
            label="Standard tasks", max_lines=1, interactive=True, elem_id="run-evaluate-tasks", key="run-evaluate-tasks",
            info="Names of lm-eval's, with commas, where it is only asked: arc_easy, hellaswag",
        )  # fmt: skip
    widgets = forms.fields(KNOBS, {}, "run-evaluate")
    with gr.Row(elem_classes=["actions"]):
        report = gr.Button("Report what it learnt and lost", variant="primary", size="sm", elem_id="run-evaluate-report", scale=0)
        evaluate = gr.Button("Only ask", size="sm", elem_id="run-evaluate-go", scale=0, min_width=90)
        closer.leave()

    def how(given: Mapping[Component, Any]) -> dict[str, Any]:
        return forms.collect(KNOBS, {name: given[widget] for name, widget in widgets.items()})

    def reported(run: Run, given: Mapping[Component, Any]) -> Spec:
        return report_of(run, given[sets] or [], how(given))

    def asked(run: Run, given: Mapping[Component, Any]) -> Spec:
        named = [name.strip() for name in (given[tasks] or "").split(",") if name.strip()]
        return evaluation_of(run, given[sets] or [], given[also] or [], how(given), named)

    closer.starts(report, reported, {sets, *widgets.values()})
    closer.starts(evaluate, asked, {sets, also, tasks, *widgets.values()})


def evaluation_of(run: Run, sets: Sequence[str], beside: Sequence[str], how: Mapping[str, Any], tasks: Sequence[str] = ()) -> EvaluateSpec:
    """The base, what the run made, and other models are asked the questions of these sets, and standard tasks."""
    models = list(dict.fromkeys([base_of(run), reference(run), *beside]))
    given = {"name": f"{reference(run).replace(':', ' ')} asked", "models": models, "tasks": list(tasks)}
    return EvaluateSpec.parse({**given, "sets": [{"data": name, **how} for name in sets]})  # type: ignore[return-value]


def report_of(run: Run, sets: Sequence[str], how: Mapping[str, Any]) -> ReportSpec:
    """As `evaluation_of`, and where in the network the change sits; of one model alone."""
    given = {"model": reference(run), "base": base_of(run), "sets": [{"data": name, **how} for name in sets]}
    return ReportSpec.parse({"name": f"Report of {reference(run).replace(':', ' ')}", **given})  # type: ignore[return-value]


def base_of(run: Run) -> str:
    return str(run.spec["base" if run.kind == "merge" else "model"])
