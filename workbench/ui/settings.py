"""The settings of a training run as forms: the run itself, and the methods that shape it (loss, update, probes).

Drawn again only when a whole spec is put on the bench or another method is chosen, never under a typing hand. A value
with a mistake goes into the spec as it was typed: the plan names all mistakes at once, and nothing is lost.
"""

from typing import Any

import gradio as gr

from workbench.core.errors import SpecError
from workbench.core.method import find, knobs_of
from workbench.core.parts import StopSpec
from workbench.core.spec import TrainSpec
from workbench.ui.bench import Bench
from workbench.ui.forms import DRAWN, READER, WRITER, collect, fields, method_block, method_choices, method_from, on_input

PARTS = (("loss", "losses", "Loss"), ("update", "updates", "Update"))


def settings(bench: Bench) -> None:
    """All of them, drawn where this is called. Elements: `train-KNOB`, `train-loss`, `train-update`, `train-noises`, `train-probes`,
    `train-stop-KNOB`, `train-prompts`."""
    with gr.Accordion("Run", open=True, elem_classes=["group"]):
        _run_form(bench)
    for part, shelf, label in PARTS:
        with gr.Accordion(label, open=False, elem_classes=["group"], elem_id=f"group-{part}"):
            _method_form(bench, part, shelf, label)
    with gr.Accordion("Noise on the inputs", open=False, elem_classes=["group"], elem_id="group-noises"):
        _several_form(bench, "noises", "What disturbs the inputs", "train-noise")
    with gr.Accordion("Probes", open=False, elem_classes=["group"], elem_id="group-probes"):
        _several_form(bench, "probes", "What is measured", "train-probe")
    with gr.Accordion("Stop early", open=False, elem_classes=["group"], elem_id="group-stop"):
        _stop_form(bench)
    with gr.Accordion("Sample prompts", open=False, elem_classes=["group"]):
        _prompts_form(bench)


def _run_form(bench: Bench) -> None:
    @gr.render(inputs=bench.spec, triggers=[bench.loaded.change], **DRAWN)
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

    choice.input(choose, [bench.spec, choice], bench.spec, trigger_mode="always_last", **WRITER)

    @gr.render(inputs=[bench.spec, choice], triggers=[choice.change, bench.loaded.change], **DRAWN)
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


def _several_form(bench: Bench, part: str, label: str, key: str) -> None:
    """The methods of one shelf of which a spec holds any number, under the shelf's name."""
    picked = gr.CheckboxGroup(method_choices(part), label=label, elem_id=f"train-{part}")
    bench.loaded.change(lambda spec: [method["method"] for method in spec[part]], bench.spec, picked, **READER)

    def choose(spec: dict[str, Any], names: list[str]) -> dict[str, Any]:
        held = {method["method"]: method for method in spec[part]}
        return {**spec, part: [held.get(name) or find(part, name)().chosen() for name in names]}

    picked.input(choose, [bench.spec, picked], bench.spec, trigger_mode="always_last", **WRITER)

    @gr.render(inputs=[bench.spec, picked], triggers=[picked.change, bench.loaded.change], **DRAWN)
    def draw(spec: dict[str, Any], names: list[str]) -> None:
        held = {method["method"]: method for method in spec[part]}
        for name in names:
            widgets = method_block(part, held.get(name) or {"method": name}, key)
            on_input(widgets, _writer_of(bench, part, name, widgets), bench.spec, bench.spec)


def _writer_of(bench: Bench, part: str, name: str, widgets: dict[str, Any]) -> Any:
    def write(given: dict[Any, Any]) -> dict[str, Any]:
        spec = given[bench.spec]
        typed = _typed(part, name, widgets, given)
        return {**spec, part: [typed if method["method"] == name else method for method in spec[part]]}

    return write


def _stop_form(bench: Bench) -> None:
    @gr.render(inputs=bench.spec, triggers=[bench.loaded.change], **DRAWN)
    def draw(spec: dict[str, Any]) -> None:
        knobs = knobs_of(StopSpec)
        widgets = fields(knobs, spec["stop"], "train-stop")

        def write(given: dict[Any, Any]) -> dict[str, Any]:
            typed = {name: given[widget] for name, widget in widgets.items()}
            try:
                return {**given[bench.spec], "stop": collect(knobs, typed)}
            except SpecError:
                return {**given[bench.spec], "stop": typed}

        on_input(widgets, write, bench.spec, bench.spec)


def _prompts_form(bench: Bench) -> None:
    prompts = gr.Textbox(
        label="One prompt a line", lines=3, max_lines=8, elem_id="train-prompts",
        info="Answered as it learns. Empty takes some from the validation rows.",
    )  # fmt: skip

    def write(spec: dict[str, Any], text: str) -> dict[str, Any]:
        return {**spec, "prompts": [line.strip() for line in (text or "").splitlines() if line.strip()]}

    prompts.input(write, [bench.spec, prompts], bench.spec, trigger_mode="always_last", **WRITER)
    bench.loaded.change(lambda spec: "\n".join(spec["prompts"]), bench.spec, prompts, **READER)
