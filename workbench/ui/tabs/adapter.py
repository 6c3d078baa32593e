"""The Adapter tab: which base, what may move in it, and what that costs before anything is loaded.

Knows no adapter by name: the ways to tune (`ways.py`) and forms come from the registry, the figures from `jobs.estimate`. A
control that is touched writes its part of `bench.spec`, with its mistake if it has one, so that Train refuses it too.
Ids: adapter-model, adapter-presets (buttons `[data-pick=0]` …), adapter-families (buttons `[data-pick=NAME]`), adapter-head,
adapter-NAME-KNOB, adapter-estimate-error,
adapter-error, adapter-modules (buttons `[data-pick=MODULE]`), adapter-tiles, adapter-heat, adapter-memory,
adapter-reading, adapter-beside, adapter-shared, adapter-heat-beside, adapter-next.
"""

from typing import Any

import gradio as gr

from workbench.core import words
from workbench.core.errors import WorkbenchError
from workbench.core.method import find
from workbench.core.spec import parse_spec
from workbench.jobs.anatomy import modules
from workbench.jobs.calibration import calibrated, overhead
from workbench.jobs.curate import data_sets
from workbench.jobs.estimate import Estimate, choices, estimate, shared, shares
from workbench.jobs.presets import applied, presets
from workbench.ui import cards, forms, plots
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.moduletree import knob_for, toggled, tree
from workbench.ui.ways import families, starts
from workbench.ui.words import run_label

Spec = dict[str, Any]
READING = '<p class="quiet" role="status">Reading the shape of {} …</p>'


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    method = gr.State(lambda: parse_spec({}).model_dump(mode="json")["adapter"])
    with gr.Row(elem_classes=["tab-columns"]):
        with gr.Column(scale=4, min_width=300):
            ways = _base_and_families(ctx, bench)
        with gr.Column(scale=4, min_width=300):
            error = cards.card_place("adapter-error")
            _form(ctx, bench, method, error)
            _modules(ctx, bench, method)
        with gr.Column(scale=5, min_width=340, elem_classes=["pictures"]):
            _figures(ctx, bench)
    ways.select(_pick, [bench.spec], [method, bench.spec], **forms.WRITER)
    bench.loaded.change(_reload, [bench.spec], method, **forms.WRITER)
    bench.loaded.change(lambda spec: _families(ctx, spec), bench.spec, ways, **forms.READER)


def _base_and_families(ctx: Context, bench: Bench) -> gr.HTML:
    """The base model and the ways to tune it; returns the latter."""
    cards.place("<h3>Base model</h3>")
    model = gr.Dropdown(
        choices=_models(ctx),
        value="pocket",
        label="Model",
        info="One from the list, a model folder, or a hub id such as org/name",
        allow_custom_value=True,
        interactive=True,
        elem_id="adapter-model",
    )
    reading = cards.place(elem_id="adapter-reading")  # while a large model's shape is read, which takes seconds
    model.focus(lambda: gr.Dropdown(choices=_models(ctx)), None, model, **forms.READER)
    # what an event asks for is asked one after the other, so the spec comes first: the next press may be Start
    last = {"trigger_mode": "always_last"}
    model.input(lambda chosen, spec: {**spec, "model": str(chosen or "")}, [model, bench.spec], bench.spec, **last, **forms.WRITER)
    model.input(lambda chosen: READING.format(cards.escaped(chosen or "nothing")), model, reading, **last, **forms.READER)
    bench.loaded.change(lambda spec: spec.get("model", "pocket"), bench.spec, model, **forms.READER)
    cards.place("<h3>Start from</h3>")
    whole = [bench.spec, bench.loaded]
    cards.picker(starts(presets()), "adapter-presets").select(_start, whole, whole, **forms.WRITER)
    cards.place("<h3>What may move</h3>")
    ways = cards.picker("", "adapter-families")  # drawn when a spec is put on the bench, which opening the page does too

    def of(chosen: str | None, spec: Spec) -> tuple[str, str]:
        return _families(ctx, {**spec, "model": str(chosen or "")}), ""

    model.input(of, [model, bench.spec], [ways, reading], **last, **forms.READER)
    return ways


def _models(ctx: Context) -> list[tuple[str, str]]:
    return [(label, reference) for reference, label in choices(ctx.workspace)]


def _families(ctx: Context, spec: Spec) -> str:
    """The ways to tune, with what each would move of the spec's model where that can be told."""
    try:
        return families(_name(spec), shares(_model(spec), ctx.workspace))
    except cards.PROBLEMS:  # what is wrong with the model stands where its figures would
        return families(_name(spec), {})


def _start(spec: Spec, loaded: int, event: gr.EventData) -> tuple[Spec, int]:
    """The settings of a preset; forms everywhere are drawn again."""
    return applied(presets()[int(event.pick)], spec), loaded + 1


def _pick(spec: Spec, event: gr.EventData) -> tuple[Any, Spec]:
    """Another method with its defaults; the same one again changes nothing."""
    if _name(spec) == event.pick:
        return gr.skip(), gr.skip()
    chosen = find("adapters", event.pick)().chosen()
    return chosen, {**spec, "adapter": chosen}


def _name(spec: Spec) -> str:
    given = spec.get("adapter", {})
    return given if isinstance(given, str) else str(given.get("method", ""))


def _reload(spec: Spec) -> Spec:
    """The form of a spec that was put on the bench whole."""
    given = spec.get("adapter", {})
    return given if isinstance(given, dict) else {"method": given}


def _form(ctx: Context, bench: Bench, method: gr.State, error: gr.HTML) -> None:
    """The chosen method's form, drawn again only when another method or another spec is chosen."""

    @gr.render(inputs=[method], **forms.DRAWN)
    def draw(chosen: Spec) -> None:
        name = str(chosen.get("method", ""))
        try:
            names = {"data": [choice.name for choice in data_sets(ctx.workspace)]}
            widgets = forms.method_block("adapters", chosen, "adapter", names)
        except WorkbenchError as mistake:
            cards.place(cards.error_card(mistake))
            return

        def moved(given: dict[Any, Any]) -> tuple[str, Spec]:
            spec = given[bench.spec]
            try:
                return "", {**spec, "adapter": forms.method_from("adapters", name, widgets, given)}
            except WorkbenchError as mistake:
                typed = {knob: given[widget] for knob, widget in widgets.items()}
                return cards.error_card(mistake), {**spec, "adapter": {"method": name, **typed}}

        forms.on_input(widgets, moved, [error, bench.spec], bench.spec)


def _modules(ctx: Context, bench: Bench, method: gr.State) -> None:
    """The base's modules, where the adapter has a knob that names some; a click names one, or takes it back."""
    leaves = cards.picker("", "adapter-modules")

    def show(spec: Spec) -> str:
        try:
            knob = knob_for(spec["adapter"])
            every = find("adapters", _name(spec)).family == "whole"  # type: ignore[attr-defined]
            return tree(modules(_model(spec), ctx.workspace), spec["adapter"].get(knob, ""), every) if knob else ""
        except (KeyError, TypeError, *cards.PROBLEMS):  # half a spec, or no such model: said where its figures would stand
            return ""

    def pick(spec: Spec, event: gr.EventData) -> tuple[Spec, Spec]:
        knob = knob_for(spec["adapter"])
        chosen = {**spec["adapter"], knob: toggled(spec["adapter"].get(knob, ""), event.pick)}
        return chosen, {**spec, "adapter": chosen}

    gr.on(None, show, bench.spec, leaves, trigger_mode="always_last", **forms.READER)
    leaves.select(pick, bench.spec, [method, bench.spec], **forms.WRITER)


def _figures(ctx: Context, bench: Bench) -> None:
    """What moves and what it needs, estimated from the model's shape; drawn again only when the estimate changed."""
    why = cards.card_place("adapter-estimate-error")
    figures = cards.place(elem_id="adapter-tiles", above_figure=True)
    heat = gr.Plot(show_label=False, container=False, elem_id="adapter-heat", elem_classes=["figure"])
    memory = gr.Plot(show_label=False, container=False, elem_id="adapter-memory", elem_classes=["figure"])
    beside = gr.Dropdown([("no run", "")], value="", label="Beside what a run moved", interactive=True, elem_id="adapter-beside")
    says = cards.place(elem_id="adapter-shared")
    other = gr.Plot(visible=False, show_label=False, container=False, elem_id="adapter-heat-beside", elem_classes=["figure"])
    cards.place('<p class="quiet">Estimated from the model’s shape, for rows as long as the recipe allows, before anything is loaded.</p>')
    gr.Button("Go to Train", elem_id="adapter-next", variant="primary").click(
        lambda: gr.Tabs(selected="train"), None, bench.tabs, **forms.READER
    )
    seen = gr.State("")

    @cards.carded(4)
    def look(spec: Spec, last: str) -> tuple[Any, ...]:
        wanted = parse_spec(spec)
        found = calibrated(estimate(wanted, ctx.workspace), overhead(ctx.store, _model(spec), ctx.workspace))
        if repr(found) == last:
            return (gr.skip(),) * 4
        moves = plots.heat_map(found.by_module)
        needs = plots.memory_bar(found.memory, found.machine_bytes)
        return cards.tiles(_tiles(found)), moves, needs, repr(found)

    def compare(spec: Spec, run: str) -> tuple[str, Any]:
        if not run:
            return "", gr.Plot(visible=False)
        try:
            moved, wanted = (estimate(parse_spec(one), ctx.workspace) for one in (ctx.store.run(run).spec, spec))
        except WorkbenchError as error:
            return cards.error_card(error), gr.skip()
        share = f"{shared(wanted, moved):.0%} of the numbers that will move lie in modules of which run {run} moved some."
        return cards.note(share), gr.Plot(plots.heat_map(moved.by_module, f"What run {run} moved"), visible=True)

    beside.focus(lambda: gr.Dropdown(_runs(ctx)), None, beside, **forms.READER)
    gr.on([beside.input, bench.spec.change], compare, [bench.spec, beside], [says, other], trigger_mode="always_last", **forms.READER)
    gr.on(None, look, [bench.spec, seen], [why, figures, heat, memory, seen], trigger_mode="always_last", **forms.READER)


def _model(spec: Spec) -> str:
    return str(spec.get("model", "pocket"))


def _runs(ctx: Context) -> list[tuple[str, str]]:
    """The training runs, newest first."""
    return [("no run", ""), *((run_label(run.id, run.name), run.id) for run in ctx.store.runs("train"))]


def _tiles(found: Estimate) -> list[tuple[str, str, str]]:
    fits = found.bytes <= found.machine_bytes
    return [
        (plots.short(found.trained), "numbers will move", ""),
        (f"{100 * found.trained / max(found.total, 1):.3g} %", "of the model", ""),
        (words.size(found.bytes), "memory" if fits else "memory, more than this machine has", "" if fits else "act"),
    ]
