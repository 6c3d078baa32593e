"""The Adapter tab: which base, what may move in it, and what that costs before anything is loaded.

Knows no adapter by name: cards, forms and drawings come from the registry, the figures from `jobs.estimate`. A
control that is touched writes its part of `bench.spec`, with its mistake if it has one, so that Train refuses it too.
Ids: adapter-model, adapter-families (buttons `[data-pick=NAME]`), adapter-head, adapter-NAME-KNOB, adapter-estimate-error,
adapter-error, adapter-tiles, adapter-heat, adapter-memory, adapter-next.
"""

import html
from typing import Any

import gradio as gr

from workbench.core import words
from workbench.core.errors import WorkbenchError
from workbench.core.method import Method, find, knobs_of, shelf
from workbench.core.spec import parse_spec
from workbench.jobs.estimate import Estimate, choices, estimate
from workbench.ui import cards, forms, plots
from workbench.ui.bench import Bench
from workbench.ui.context import Context

Spec = dict[str, Any]
LOW_RANK = (
    '<rect x="2" y="6" width="44" height="44" rx="3" class="still"/><text x="53" y="33">+</text>'
    '<rect x="66" y="6" width="11" height="44" rx="3" class="moves"/><rect x="83" y="6" width="44" height="11" rx="3" class="moves"/>'
)
WHOLE = '<rect x="42" y="6" width="44" height="44" rx="3" class="moves"/><path d="M42 21H86M42 36H86M57 6V50M72 6V50" class="grid"/>'

PARTS = '<rect x="42" y="6" width="44" height="44" rx="3" class="still"/>' + "".join(
    f'<rect x="{x}" y="{y}" width="9" height="9" class="moves"/>' for x, y in ((46, 10), (68, 10), (57, 21), (73, 31), (46, 37))
)
FAMILIES = {
    "beside": (LOW_RANK, "beside frozen weights"),
    "whole": (WHOLE, "in the weights themselves"),
    "part": (PARTS, "in some of the weights"),
}


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    method = gr.State(lambda: parse_spec({}).model_dump(mode="json")["adapter"])
    with gr.Row(elem_classes=["tab-columns"]):
        with gr.Column(scale=3, min_width=280):
            families = _base_and_families(ctx, bench)
        with gr.Column(scale=4, min_width=300):
            error = cards.card_place("adapter-error")
            _form(bench, method, error)
        with gr.Column(scale=5, min_width=340, elem_classes=["pictures"]):
            _figures(ctx, bench)
    families.select(_pick, [bench.spec], [method, bench.spec], **forms.WRITER)
    bench.loaded.change(_reload, [bench.spec], [method, families], **forms.WRITER)


def _base_and_families(ctx: Context, bench: Bench) -> gr.HTML:
    """The base model and one card a method; returns the cards."""
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
    model.focus(lambda: gr.Dropdown(choices=_models(ctx)), None, model, **forms.READER)
    model.input(lambda chosen, spec: {**spec, "model": str(chosen or "")}, [model, bench.spec], bench.spec, **forms.WRITER)
    bench.loaded.change(lambda spec: spec.get("model", "pocket"), bench.spec, model, **forms.READER)
    cards.place("<h3>What may move</h3>")
    return cards.picker(family_cards(_first_adapter()), "adapter-families", ["families"])


def _models(ctx: Context) -> list[tuple[str, str]]:
    return [(label, reference) for reference, label in choices(ctx.workspace)]


def _first_adapter() -> str:
    return parse_spec({}).model_dump(mode="json")["adapter"]["method"]


def family_cards(chosen: str) -> str:
    """One card a method with its drawing and first sentence; the chosen one is pressed."""
    return (
        '<div class="family-cards">' + "".join(_card(name, method, name == chosen) for name, method in shelf("adapters").items()) + "</div>"
    )


def _card(name: str, method: type[Method], pressed: bool) -> str:
    beside = any(knob.name == "rank" for knob in knobs_of(method))
    drawing, words = FAMILIES["beside" if beside else "whole" if method().whole else "part"]  # type: ignore[attr-defined]
    return (
        f'<button type="button" class="family" data-pick="{name}" aria-pressed="{str(pressed).lower()}">'
        f'<svg viewBox="0 0 130 56" aria-hidden="true">{drawing}</svg>'
        f"<b>{html.escape(method.title())}</b><span>{words}</span></button>"
    )


def _pick(spec: Spec, event: gr.EventData) -> tuple[Any, Spec]:
    """Another method with its defaults; the same one again changes nothing."""
    if _name(spec) == event.pick:
        return gr.skip(), gr.skip()
    chosen = find("adapters", event.pick)().chosen()
    return chosen, {**spec, "adapter": chosen}


def _name(spec: Spec) -> str:
    given = spec.get("adapter", {})
    return given if isinstance(given, str) else str(given.get("method", ""))


def _reload(spec: Spec) -> tuple[Spec, str]:
    """The form and the cards of a spec that was put on the bench whole."""
    given = spec.get("adapter", {})
    return (given if isinstance(given, dict) else {"method": given}), family_cards(_name(spec))


def _form(bench: Bench, method: gr.State, error: gr.HTML) -> None:
    """The chosen method's form, drawn again only when another method or another spec is chosen."""

    @gr.render(inputs=[method], **forms.DRAWN)
    def draw(chosen: Spec) -> None:
        name = str(chosen.get("method", ""))
        try:
            widgets = forms.method_block("adapters", chosen, "adapter")
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


def _figures(ctx: Context, bench: Bench) -> None:
    """What moves and what it needs, estimated from the model's shape; drawn again only when the estimate changed."""
    why = cards.card_place("adapter-estimate-error")
    figures = cards.place(elem_id="adapter-tiles", above_figure=True)
    heat = gr.Plot(show_label=False, container=False, elem_id="adapter-heat", elem_classes=["figure"])
    memory = gr.Plot(show_label=False, container=False, elem_id="adapter-memory", elem_classes=["figure"])
    cards.place('<p class="quiet">Estimated from the model’s shape, before anything is loaded.</p>')
    gr.Button("Go to Train", elem_id="adapter-next", variant="primary").click(
        lambda: gr.Tabs(selected="train"), None, bench.tabs, **forms.READER
    )
    seen = gr.State("")

    @cards.carded(4)
    def look(spec: Spec, last: str) -> tuple[Any, ...]:
        found = estimate(parse_spec(spec), ctx.workspace)
        if repr(found) == last:
            return (gr.skip(),) * 4
        moves = plots.heat_map(found.by_module)
        needs = plots.memory_bar(found.memory, found.machine_bytes)
        return cards.tiles(_tiles(found)), moves, needs, repr(found)

    gr.on(None, look, [bench.spec, seen], [why, figures, heat, memory, seen], trigger_mode="always_last", **forms.READER)


def _tiles(found: Estimate) -> list[tuple[str, str, str]]:
    fits = found.bytes <= found.machine_bytes
    return [
        (plots.short(found.trained), "numbers will move", ""),
        (f"{100 * found.trained / max(found.total, 1):.3g} %", "of the model", ""),
        (words.size(found.bytes), "memory" if fits else "memory, more than this machine has", "" if fits else "act"),
    ]
