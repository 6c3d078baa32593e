"""The settings of a training run as forms: the run itself, and the methods that shape it (loss, update, probes).

Drawn again only when a whole spec is put on the bench or another method is chosen, never under a typing hand. A value
with a mistake goes into the spec as it was typed: the plan names all mistakes at once, and nothing is lost.
"""

from typing import Any

import gradio as gr

from workbench.core.errors import SpecError
from workbench.core.method import find, knobs_of
from workbench.core.spec import TrainSpec
from workbench.ui.bench import Bench
from workbench.ui.forms import READER, WRITER, collect, fields, method_block, method_choices, method_from, on_input

PARTS = (("loss", "losses", "Loss"), ("update", "updates", "Update"))


def settings(bench: Bench) -> None:
    """All of them, drawn where this is called. Elements: `train-KNOB`, `train-loss`, `train-update`, `train-probes`, `train-prompts`."""
    with gr.Accordion("Run", open=True, elem_classes=["group"]):
        _run_form(bench)
    for part, shelf, label in PARTS:
        with gr.Accordion(label, open=False, elem_classes=["group"], elem_id=f"group-{part}"):
            _method_form(bench, part, shelf, label)
    with gr.Accordion("Probes", open=False, elem_classes=["group"], elem_id="group-probes"):
        _probes_form(bench)
    with gr.Accordion("Sample prompts", open=False, elem_classes=["group"]):
        _prompts_form(bench)


def _run_form(bench: Bench) -> None:
    @gr.render(inputs=bench.spec, triggers=[bench.loaded.change], show_progress="hidden")
    def draw(spec: dict[str, Any]) -> None:
        knobs = knobs_of(TrainSpec)
        widgets = fields(knobs, spec, "train")

        def write(given: dict[Any, Any]) -> dict[str, Any]:
            typed = {name: given[widget] for name, widget in widgets.items()}
            try:
                return {**given[bench.spec], **collect(knobs, typed)}
            except SpecError:
                return {**given[bench.spec], **typed}

        on_input(widgets, write, bench.spec, bench.spec)


def _method_form(bench: Bench, part: str, shelf: str, label: str) -> None:
    choice = gr.Dropdown(method_choices(shelf), label=label, show_label=False, container=False, elem_id=f"train-{part}")
    bench.loaded.change(lambda spec: spec[part]["method"], bench.spec, choice, **READER)

    def choose(spec: dict[str, Any], name: str) -> dict[str, Any]:
        return {**spec, part: find(shelf, name)().chosen()}

    choice.input(choose, [bench.spec, choice], bench.spec, **WRITER)

    @gr.render(inputs=[bench.spec, choice], triggers=[choice.change, bench.loaded.change], show_progress="hidden")
    def draw(spec: dict[str, Any], name: str | None) -> None:
        if not name:
            return
        chosen = spec[part] if spec[part]["method"] == name else {"method": name}
        widgets = method_block(shelf, chosen, f"train-{part}")

        def write(given: dict[Any, Any]) -> dict[str, Any]:
            return {**given[bench.spec], part: _typed(shelf, name, widgets, given)}

        on_input(widgets, write, bench.spec, bench.spec)


def _typed(shelf: str, name: str, widgets: dict[str, Any], given: dict[Any, Any]) -> dict[str, Any]:
    """The method as typed: with its values read where they can be, and as they stand where one cannot."""
    try:
        return method_from(shelf, name, widgets, given)
    except SpecError:
        return {"method": name, **{knob: given[widget] for knob, widget in widgets.items()}}


def _probes_form(bench: Bench) -> None:
    picked = gr.CheckboxGroup(method_choices("probes"), label="What is measured", elem_id="train-probes")
    bench.loaded.change(lambda spec: [probe["method"] for probe in spec["probes"]], bench.spec, picked, **READER)

    def choose(spec: dict[str, Any], names: list[str]) -> dict[str, Any]:
        held = {probe["method"]: probe for probe in spec["probes"]}
        return {**spec, "probes": [held.get(name) or find("probes", name)().chosen() for name in names]}

    picked.input(choose, [bench.spec, picked], bench.spec, **WRITER)

    @gr.render(inputs=[bench.spec, picked], triggers=[picked.change, bench.loaded.change], show_progress="hidden")
    def draw(spec: dict[str, Any], names: list[str]) -> None:
        held = {probe["method"]: probe for probe in spec["probes"]}
        for name in names:
            widgets = method_block("probes", held.get(name) or {"method": name}, "train-probe")
            on_input(widgets, _probe_writer(bench, name, widgets), bench.spec, bench.spec)


def _probe_writer(bench: Bench, name: str, widgets: dict[str, Any]) -> Any:
    def write(given: dict[Any, Any]) -> dict[str, Any]:
        spec = given[bench.spec]
        typed = _typed("probes", name, widgets, given)
        return {**spec, "probes": [typed if probe["method"] == name else probe for probe in spec["probes"]]}

    return write


def _prompts_form(bench: Bench) -> None:
    prompts = gr.Textbox(
        label="One prompt a line", lines=3, max_lines=8, elem_id="train-prompts",
        info="Answered as it learns. Empty takes some from the validation rows.",
    )  # fmt: skip

    def write(spec: dict[str, Any], text: str) -> dict[str, Any]:
        return {**spec, "prompts": [line.strip() for line in (text or "").splitlines() if line.strip()]}

    prompts.input(write, [bench.spec, prompts], bench.spec, trigger_mode="always_last", **WRITER)
    bench.loaded.change(lambda spec: "\n".join(spec["prompts"]), bench.spec, prompts, **READER)
