"""The form of the Merge tab: which models, in which shares, how they become one, what is written, and the whole as a recipe.

Knows no merge by name: what a method has for knobs comes from the registry. What is chosen goes into the tab's draft (`ui/merging.py`),
numbers that vary from tensor to tensor too (`ui/varying.py`). A recipe that is put in counts `loaded` up, and then the forms draw
themselves anew; they never do so under a hand that types. Ids: those at the top of `tabs/merge.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.errors import WorkbenchError
from workbench.core.method import Knob, find, knobs_of
from workbench.core.spec import MergeSpec
from workbench.jobs.estimate import choices
from workbench.jobs.grafts import grafts
from workbench.ui import cards, forms, merging, refreshed, varying
from workbench.ui.context import Context
from workbench.ui.merging import Draft
from workbench.ui.words import run_label

STACK = Knob("stack", "layers, stacked", "text", "", MergeSpec.model_fields["stack"].description or "")  # in words
NO_MODELS = '<p class="quiet">Choose the tuned models first. Two finished runs of one base are enough.</p>'
EARLIER = 50  # merges that are offered to be taken up again
AFTER_A_CUT = "(kept, ...rest) => [Line.came ? kept : null, ...rest]"  # else each page that is opened would try the merge of before


@dataclass(frozen=True)
class Form:
    """What the parts of the form share; `first` is what raises the first drawing of all forms of a page."""

    ctx: Context
    draft: gr.State
    loaded: gr.State  # counts how often a whole recipe was put in
    first: gr.State
    asked: gr.State  # what another tab wants to be taken up: see `Bench.merge`


def models(form: Form) -> tuple[gr.Dropdown, gr.Dropdown]:
    """The base and the tuned models, and a field for each one's share."""
    cards.place("<h3>Models</h3>")
    common: dict[str, Any] = {"choices": _choices(form.ctx), "allow_custom_value": True, "interactive": True}
    base = gr.Dropdown(value="pocket", label="Base", info="What all of them were tuned from", elem_id="merge-base", **common)
    tuned = gr.Dropdown(
        value=[],
        multiselect=True,
        label="Tuned models",
        info="Finished runs, saved models, kept grafts; most methods want two or more",
        elem_id="merge-models",
        **common,
    )
    for box in (base, tuned):
        box.focus(lambda: gr.Dropdown(choices=_choices(form.ctx)), None, box, **forms.READER)
    last: dict[str, Any] = {"trigger_mode": "always_last", **forms.WRITER}
    base.input(lambda chosen, held: {**held, "base": chosen or ""}, [base, form.draft], form.draft, **last)
    forms.spell_out(tuned, lambda: _choices(form.ctx))
    forms.touched(tuned)(merging.with_models, [tuned, form.draft], form.draft, **forms.WRITER)
    cards.place("<h3>Shares</h3>")
    _shares(form, tuned)
    return base, tuned


def _choices(ctx: Context) -> list[tuple[str, str]]:
    """(what it is called, reference) of the models that can be chosen, the grafts of inspections behind them."""
    known = choices(ctx.workspace)
    return [(label, reference) for reference, label in [*known, *grafts(ctx.workspace, dict(known))]]


def _shares(form: Form, tuned: gr.Dropdown) -> None:
    error = cards.card_place("merge-shares-error")

    @gr.render(inputs=[tuned, form.draft], triggers=[tuned.change, form.loaded.change, form.first.change], **forms.DRAWN)
    def shares(names: list[str] | None, held: Draft) -> None:
        if not names:
            cards.place(NO_MODELS)
            return
        labels = {reference: label for label, reference in _choices(form.ctx)}
        fields, knobs = dict[str, Component](), dict[str, Knob]()
        with gr.Column(elem_classes=["knobs"]):
            for place, name in enumerate(names):
                knob = replace(merging.share_knob(merging.weight_of(held, name)), name=str(place))
                put, label = partial(_weighed, name), labels.get(name, name)
                fields[name] = _number(form, knob, merging.weight_of(held, name), 1.0, "merge-weight", put, error, label)
                knobs[name] = knob

        def moved(given: dict[Component, Any]) -> tuple[str, Any]:
            try:
                weights = {name: forms.coerce(knobs[name], given[field]) for name, field in fields.items()}
            except WorkbenchError as mistake:
                return cards.error_card(mistake), gr.skip()
            return "", merging.with_weights(given[form.draft], weights)

        forms.on_input(fields, moved, [error, form.draft], form.draft)


def _weighed(name: str, held: Draft, value: Any) -> Draft:
    return merging.with_weight(held, name, value)


def _number(form: Form, knob: Knob, value: Any, own: float, key: str, put: Any, error: gr.HTML, label: str = "") -> Component:
    """The field of a number that may vary, and what stands beside it; `own` is what the field says while it does vary."""
    varied = isinstance(value, list)
    with gr.Column(elem_classes=["varying"]):
        field = forms.widget(knob, own if varied else value, key)
        field.label, field.visible = label or field.label, not varied
        varying.beside(replace(knob, label=str(field.label)), f"{key}-{knob.name}", field, value, put, form.draft, error)
    return field


def method(form: Form, first: str) -> gr.Dropdown:
    """Which merge, its form, and what is written."""
    cards.place("<h3>Method</h3>")
    choice = gr.Dropdown(
        choices=forms.method_choices("merges"), value=first, label="How they become one", interactive=True, elem_id="merge-method"
    )
    error = cards.card_place("merge-error")
    last: dict[str, Any] = {"trigger_mode": "always_last", **forms.WRITER}
    choice.input(lambda name, held: merging.with_method(held, name), [choice, form.draft], form.draft, **last)

    @gr.render(inputs=[choice, form.draft], triggers=[choice.change, form.loaded.change, form.first.change], **forms.DRAWN)
    def drawn(name: str, held: Draft) -> None:
        same = held["merge"]["method"] == name
        fields = _knobs(form, name, held["merge"] if same else {}, (held.get("vary") or {}) if same else {}, error)

        def moved(given: dict[Component, Any]) -> tuple[str, Any]:
            try:
                return "", {**given[form.draft], "merge": forms.method_from("merges", name, fields, given)}
            except WorkbenchError as mistake:
                return cards.error_card(mistake), gr.skip()

        forms.on_input(fields, moved, [error, form.draft], form.draft)

    return choice


def _knobs(form: Form, name: str, values: Mapping[str, Any], vary: Mapping[str, Any], error: gr.HTML) -> dict[str, Component]:
    """The method's title and its knobs, each number that may vary with what that takes."""
    kind, key = find("merges", name), f"merge-{name}"
    forms.method_title(kind, "merge")

    def draw(knob: Knob) -> Component:
        own = values.get(knob.name, knob.default)
        if not (knob.name in vary or (not kind.whole and varying.varies(knob, kind.ends))):
            return forms.widget(knob, own, key)
        put = partial(_varied, knob.name)
        return _number(form, knob, vary.get(knob.name, own), own, key, put, error)

    return forms.laid_out(knobs_of(kind), key, draw)


def _varied(name: str, held: Draft, value: Any) -> Draft:
    return merging.with_knob(held, name, value)


def written(form: Form) -> gr.Accordion:
    """What is written, drawn when it is opened."""
    with gr.Accordion("What is written", open=False, elem_id="merge-written", elem_classes=["more"]) as panel:
        error = cards.card_place("merge-written-error")

        @gr.render(inputs=[form.draft], triggers=[panel.expand], **forms.DRAWN)
        def drawn(held: Draft) -> None:
            knobs = [*knobs_of(MergeSpec), STACK]
            with gr.Column(elem_classes=["knobs"]):
                fields = {knob.name: forms.widget(knob, held.get(knob.name, knob.default), "merge-out") for knob in knobs}

            def moved(given: dict[Component, Any]) -> tuple[str, Any]:
                try:
                    typed = forms.collect(knobs, {name: given[field] for name, field in fields.items()})
                except WorkbenchError as mistake:
                    return cards.error_card(mistake), gr.skip()
                return "", {**given[form.draft], **typed}

            forms.on_input(fields, moved, [error, form.draft], form.draft)

    return panel


@dataclass(frozen=True)
class Recipe:
    """What is drawn of the recipe."""

    earlier: gr.Dropdown
    text: gr.Textbox
    fill: gr.Button
    error: gr.HTML


def recipe(form: Form) -> Recipe:
    """The whole form as YAML; another recipe may be put in its place, and earlier merges taken up again."""
    with gr.Accordion("The recipe as YAML", open=False, elem_id="merge-recipe", elem_classes=["more"]):
        earlier = gr.Dropdown(
            _earlier(form.ctx), value=None, label="Take up an earlier merge", interactive=True, elem_id="merge-recipe-earlier"
        )
        text = gr.Textbox(
            merging.recipe(form.draft.value, "merged"),
            lines=8,
            max_lines=24,
            label="This form as a recipe",
            info="python -m workbench merge recipe.yaml does the same. Another recipe, or one of mergekit’s, may be pasted here",
            interactive=True,
            elem_id="merge-recipe-text",
        )
        fill = gr.Button("Fill the form from it", size="sm", elem_id="merge-recipe-fill", min_width=140)
        error = cards.card_place("merge-recipe-error")
    return Recipe(earlier, text, fill, error)


def _earlier(ctx: Context) -> list[tuple[str, str]]:
    """(what it is called, its run) of the merges on record, newest first."""
    return [(run_label(run.id, run.name), run.id) for run in ctx.store.runs("merge")[:EARLIER]]


def wire_recipe(form: Form, shown: Recipe, fields: list[Component]) -> None:
    """`fields`: base, tuned models, method and name of the form, and the panel of what is written, which a recipe closes."""
    name = fields[3]
    outputs = [shown.error, form.draft, form.loaded, *fields]

    def put(given: Any, count: int) -> tuple[Any, ...]:
        try:
            called, held = merging.read_recipe(given) if isinstance(given, str) else merging.taken_up(given)
        except WorkbenchError as mistake:
            return cards.error_card(mistake), *[gr.skip()] * 7
        tuned = [given["model"] for given in held["models"]]
        return "", held, count + 1, held["base"], tuned, held["merge"]["method"], called, gr.Accordion(open=False)

    def again(run: str | None, count: int) -> tuple[Any, ...]:
        return put(form.ctx.store.run(run).spec, count) if run else (gr.skip(),) * 8

    def asked(wanted: dict[str, Any], count: int) -> tuple[Any, ...]:
        return put(wanted["recipe"], count) if wanted else (gr.skip(),) * 8

    def back(given: Any, first: int, count: int) -> tuple[Any, ...]:
        filled = put({"kind": "merge", "name": "merged", **given}, count) if first == 1 and isinstance(given, dict) else [True]
        return (gr.skip(),) * 8 if filled[0] else filled  # a draft with mistakes does not come back

    told = [form.draft.change, forms.touched(name)]
    gr.on(told, merging.recipe, [form.draft, name], shown.text, trigger_mode="always_last", **forms.READER)
    shown.earlier.focus(lambda: gr.Dropdown(choices=_earlier(form.ctx)), None, shown.earlier, **forms.READER)
    shown.earlier.input(again, [shown.earlier, form.loaded], outputs, trigger_mode="always_last", **forms.WRITER)
    form.asked.change(asked, [form.asked, form.loaded], outputs, **forms.WRITER)
    wanted = refreshed.kept(form.ctx.workspace, "merge")
    form.draft.change(lambda held: held, form.draft, wanted, **refreshed.KEEPS)
    form.first.change(back, [wanted, form.first, form.loaded], outputs, js=AFTER_A_CUT, **forms.WRITER)
    shown.fill.click(put, [shown.text, form.loaded], outputs, **forms.WRITER)
