"""The Data tab: which rows are learnt from, and which of their tokens.

A recipe (`DataSpec`) is drafted here and counted at each change (`ui/counting.py`); "Use these" puts it on the bench.
Ids: data-sets (buttons `[data-pick=NAME]`), data-found, data-issues, data-error, data-problems, data-histogram, data-share, data-scores,
data-recipe-KNOB, data-step, data-add, data-step-I-KNOB, data-remove-I, data-dropped, data-kept, data-use-adapter, data-use-train; those of
bringing, discarding, counting, listing, mixture, terrain, contrasting, undoing, keeping and handwork beside it.
"""

import functools
import json
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.errors import WorkbenchError
from workbench.core.method import find, knobs_of
from workbench.core.parts import DataSpec
from workbench.core.words import count
from workbench.jobs.curate import DataChoice, Look, data_sets
from workbench.jobs.estimate import choices
from workbench.jobs.handiwork import keeping_hands
from workbench.ui import cards, contrasting, counting, findings, forms, keeping, listing, mixture, narrowed, plots, terrain, undoing
from workbench.ui.bench import Bench, first_spec
from workbench.ui.bringing import bring
from workbench.ui.context import Context
from workbench.ui.discarding import discarding

KNOBS = [knob for knob in knobs_of(DataSpec) if knob.name != "path"]
Draft = dict[str, Any]
Drawn = dict[str, Any]
"""What is drawn of the steps: their `methods`, and the `turn` in which all forms were drawn anew."""


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    draft, model = bench.recipe, gr.State(lambda: first_spec()["model"])
    counted = gr.State(None)  # the recipe and the model that were counted last: those whose rows are shown
    narrow = gr.State(narrowed.WHOLE)  # what narrows the rows that are listed
    shape, turn = gr.State({"methods": [], "turn": 0}), gr.State(0)  # what the forms show; they are drawn anew when these change
    with gr.Row(elem_classes=["tab-columns"]):
        with gr.Column(scale=2, min_width=230):
            _sets(ctx, draft)
        with gr.Column(scale=6, min_width=360):
            *middle, show = _middle(ctx, draft, counted, narrow)
        with gr.Column(scale=4, min_width=320):
            right = _right(ctx, draft, shape, turn)
            contrasting.build(ctx, counted, narrow, show)
            terrain.build(ctx, counted, narrow, show)
            keeping.build(ctx, draft, model)
    says, words = _bottom(bench, draft)
    outputs = (*middle, *right, words, counted)
    counting.wire(ctx.workspace, draft, model, says, outputs, _drawn)
    bench.loaded.change(_loaded, [bench.spec, draft, bench.loaded, shape, turn], [draft, shape, turn], **forms.WRITER)
    bench.spec.change(lambda spec: spec.get("model", ""), bench.spec, model, trigger_mode="always_last", **forms.WRITER)


def _loaded(spec: Draft, own: Draft, count: int, shape: Drawn, turn: int) -> tuple[Draft, Drawn, int]:
    """The recipe of a whole spec that was put on the bench, and its forms; the first time it is what the browser kept (`refreshed.py`)."""
    held = own if count == 1 else spec.get("data", {})
    return held, *_redrawn(held, shape, turn)


def _redrawn(held: Draft, shape: Drawn, turn: int) -> tuple[Drawn, int]:
    """What draws all forms of a recipe anew."""
    return {"methods": _methods(held), "turn": shape["turn"] + 1}, turn + 1


def _methods(held: Draft) -> list[str]:
    return [step["method"] for step in held.get("selectors", [])]


# Left: the data sets.


def _sets(ctx: Context, draft: gr.State) -> None:
    arrived, coming = bring(ctx)
    cards.place("<h3>Data sets</h3>")
    listed = cards.picker("", "data-sets")
    discarding(ctx, draft)

    def choose(held: Draft, event: gr.EventData) -> Draft:
        return {**held, "path": event.pick, "columns": {}}

    listed.select(choose, draft, draft, **forms.WRITER)
    arrived.change(lambda name, held: {**held, "path": name, "columns": {}} if name else held, [arrived, draft], draft, **forms.WRITER)
    gr.on(None, lambda held: _list(ctx, held), [draft], listed, trigger_mode="always_last", **forms.READER)
    coming.moved(lambda held: _list(ctx, held), [draft], listed, trigger_mode="always_last", **forms.READER)


def _list(ctx: Context, held: Draft) -> str:
    """Every data set with its rows and where it comes from; the one in the draft is pressed."""
    return f'<div class="sets">{"".join(_set(choice, choice.name == held.get("path")) for choice in data_sets(ctx.workspace))}</div>'


def _set(choice: DataChoice, pressed: bool) -> str:
    name, where = cards.escaped(choice.name), " · demo" if choice.where == "demo" else ""
    return (
        f'<button type="button" class="set" data-pick="{name}" aria-pressed="{str(pressed).lower()}">'
        f"<b>{name}</b><span>{choice.rows:,} rows · {cards.escaped(forms.in_words(choice.format))}{where}</span></button>"
    )


# Middle: what was found, and the rows.


def _middle(ctx: Context, draft: gr.State, counted: gr.State, narrow: gr.State) -> tuple[Component, ...]:
    error = cards.card_place("data-error")
    found = cards.place(elem_id="data-found")
    issues = cards.picker("", "data-issues")
    with gr.Accordion("Problems", open=False, visible=False, elem_classes=["more"]) as fold:
        problems = cards.place(elem_id="data-problems")
    show = listing.build(ctx, draft, counted, narrow)
    issues.select(_picked, [draft, narrow], [draft, show, narrow], **forms.WRITER)
    return error, found, issues, problems, fold, show


def _picked(held: Draft, narrow: Draft, event: gr.EventData) -> tuple[Any, Any, Any]:
    """What a finding's button asks for: its rows to be shown, all of them, its step, which is added once, or other columns."""
    does, _, what = event.pick.partition(":")
    if does == "columns":
        return {**held, "columns": json.loads(what)}, gr.skip(), gr.skip()
    if does == "show":
        choices = [*listing.SHOWN, *([] if what in listing.SHOWN else [what])]
        return gr.skip(), gr.Dropdown(choices=choices, value=what), {**narrow, "rows": None, "says": "", "least": None, "most": None}
    before = held.get("selectors", [])
    steps = findings.taken(what, before)
    return gr.skip() if steps == before else {**held, "selectors": steps}, gr.skip(), gr.skip()


# Right: the recipe and what it makes.


def _right(ctx: Context, draft: gr.State, shape: gr.State, turn: gr.State) -> tuple[Component, ...]:
    with gr.Column(elem_classes=["pictures"]):
        share = cards.place(elem_id="data-share", above_figure=True)
        histogram = gr.Plot(show_label=False, container=False, elem_id="data-histogram", elem_classes=["figure"])
    mistake = cards.card_place("data-recipe-error")
    undoing.build(draft, _redrawn, [shape, turn])
    cards.place("<h3>What is learnt</h3>")

    @gr.render(inputs=[draft], triggers=[turn.change], **forms.DRAWN)
    def recipe(values: Draft) -> None:
        _recipe(draft, mistake, values)

    portions = mixture.build(ctx, draft, turn)
    cards.place("<h3>Steps that drop rows</h3>")
    _steps(ctx, draft, shape, mistake)
    scores = cards.place(elem_id="data-scores")
    with gr.Accordion("Dropped rows", open=False, elem_classes=["more"]):
        dropped = cards.place(elem_id="data-dropped")
    return share, histogram, portions, scores, dropped


def _recipe(draft: gr.State, mistake: gr.HTML, values: Draft) -> None:
    widgets = forms.fields(KNOBS, values, "data-recipe")

    def moved(given: dict[Component, Any]) -> tuple[str, Any]:
        try:
            return "", {**given[draft], **forms.collect(KNOBS, {name: given[widget] for name, widget in widgets.items()})}
        except WorkbenchError as error:
            return cards.error_card(error), gr.skip()

    forms.on_input(widgets, moved, [mistake, draft], draft)


def _steps(ctx: Context, draft: gr.State, shape: gr.State, mistake: gr.HTML) -> None:
    """The selection steps in order, each with its form; drawn when one comes or goes, not at every knob: never under the hand."""

    @gr.render(inputs=[draft], triggers=[shape.change], **forms.DRAWN)
    def forms_of_steps(held: Draft) -> None:
        steps = held.get("selectors", [])
        if not steps:
            cards.place('<p class="quiet">No steps: every readable row is kept.</p>')
        names = {"data": [choice.name for choice in data_sets(ctx.workspace)], "model": [name for name, _ in choices(ctx.workspace)]}
        for place, step in enumerate(steps):
            with gr.Column(elem_classes=["step-card"], key=f"step-{place}-{step['method']}"):
                _step(draft, mistake, place, step, names)

    with gr.Row(elem_classes=["row-tools"]):
        which = gr.Dropdown(
            forms.method_choices("selectors"),
            label="Step",
            show_label=False,
            container=False,
            interactive=True,
            elem_id="data-step",
            scale=2,
            min_width=150,
        )
        add = gr.Button("Add step", elem_id="data-add", scale=1, min_width=100, size="sm")

    def added(name: str, held: Draft) -> Draft:
        return {**held, "selectors": [*held.get("selectors", []), find("selectors", name)().chosen()]}

    add.click(added, [which, draft], draft, trigger_mode="multiple", **forms.WRITER)
    gr.on(None, _shape_of, [draft, shape], shape, trigger_mode="always_last", **forms.WRITER)


def _shape_of(held: Draft, drawn: Drawn) -> Any:
    """New methods only where they differ from what is drawn."""
    return gr.skip() if _methods(held) == drawn["methods"] else {**drawn, "methods": _methods(held)}


def _step(draft: gr.State, mistake: gr.HTML, place: int, step: Draft, names: forms.Names) -> None:
    name = step["method"]
    widgets = forms.method_block("selectors", step, f"data-step-{place}", names)
    remove = gr.Button("Remove", size="sm", elem_id=f"data-remove-{place}", elem_classes=["quiet-button"])

    def moved(given: dict[Component, Any]) -> tuple[str, Any]:
        steps = list(given[draft].get("selectors", []))
        if place >= len(steps) or steps[place]["method"] != name:  # it was taken away, and its form is about to be
            return gr.skip(), gr.skip()
        try:
            steps[place] = keeping_hands(steps[place], forms.method_from("selectors", name, widgets, given))
        except WorkbenchError as error:
            return cards.error_card(error), gr.skip()
        return "", {**given[draft], "selectors": steps}

    def removed(held: Draft) -> Draft:
        return {**held, "selectors": [step for number, step in enumerate(held.get("selectors", [])) if number != place]}

    forms.on_input(widgets, moved, [mistake, draft], draft)
    remove.click(removed, draft, draft, **forms.WRITER)


# Bottom: what will be used.


def _bottom(bench: Bench, draft: gr.State) -> tuple[gr.HTML, gr.HTML]:
    """Where it is said how far a count is, which is seen from everywhere on the tab, and what is kept."""
    with gr.Row(elem_classes=["bottom-bar"]):
        with gr.Column(scale=4, min_width=240):
            says = cards.picker("", "data-counting")
            words = cards.place(elem_id="data-kept")
        for tab, label, variant in (("adapter", "Use these, then Adapter", "secondary"), ("train", "Use these, then Train", "primary")):
            button = gr.Button(label, variant=variant, elem_id=f"data-use-{tab}", scale=0, min_width=210)  # type: ignore[arg-type]
            button.click(functools.partial(_use, tab), [draft, bench.spec], [bench.spec, bench.tabs], **forms.WRITER)
    return says, words


def _use(tab: str, held: Draft, spec: Draft) -> tuple[Draft, Any]:
    return {**spec, "data": held}, gr.Tabs(selected=tab)


def _drawn(found: Look, held: Draft) -> tuple[Any, ...]:
    """Everything that is drawn of a counted recipe, in the order of the places for it."""
    return (
        findings.found(found),
        findings.issues(found),
        findings.rejects(found),
        gr.Accordion(label=f"Problems · {count(found.rejected, 'row')} that could not be read", visible=bool(found.rejected)),
        cards.tiles([(f"{found.share_trained:.0%}", "of the tokens are learnt", ""), (plots.short(found.trained), "learnt tokens", "")]),
        plots.length_histogram(found.lengths, held["max_length"]),
        mixture.drawn(found.portions),
        findings.scores(found),
        cards.table(found.dropped.columns, found.dropped.rows, limit=100, empty="No row is dropped."),
        findings.kept(found),
    )
