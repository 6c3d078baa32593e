"""The Data tab: which rows are learnt from, and which of their tokens.

A recipe (`DataSpec`) is drafted here and counted at each change (`ui/counting.py`); "Use these" puts it on the bench. Rows are
paged by the server, twenty at a time.
Ids: data-sets (buttons `[data-pick=NAME]`), data-found, data-issues, data-error, data-view, data-show, data-find, data-rows,
data-pager, data-problems, data-histogram, data-share, data-scores, data-recipe-KNOB, data-step, data-add, data-step-I-KNOB, data-remove-I,
data-dropped, data-kept, data-use-adapter, data-use-train; those of bringing, counting, mixture, terrain, keeping and handwork beside it.
"""

import functools
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.errors import WorkbenchError
from workbench.core.method import find, knobs_of
from workbench.core.parts import DataSpec
from workbench.core.words import count
from workbench.jobs.curate import DataChoice, Look, data_sets, page
from workbench.jobs.estimate import choices
from workbench.jobs.handiwork import keeping_hands
from workbench.ui import cards, counting, findings, forms, handwork, keeping, mixture, plots, rows, terrain
from workbench.ui.bench import Bench, first_spec
from workbench.ui.bringing import bring
from workbench.ui.context import Context

LIMIT = 20  # rows on a page
KNOBS = [knob for knob in knobs_of(DataSpec) if knob.name != "path"]
VIEWS = [("bubbles", "bubbles"), ("table", "table"), ("tokens", "tokens")]
SHOWN = ["kept", "dropped", "nothing to learn", "all"]
Draft = dict[str, Any]


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    draft, model = gr.State(lambda: first_spec()["data"]), gr.State(lambda: first_spec()["model"])
    counted = gr.State(None)  # the recipe and the model that were counted last: those whose rows are shown
    with gr.Row(elem_classes=["tab-columns"]):
        with gr.Column(scale=2, min_width=230):
            _sets(ctx, draft)
        with gr.Column(scale=6, min_width=360):
            says = cards.picker("", "data-counting")
            middle = _middle(ctx, draft, counted)
        with gr.Column(scale=4, min_width=320):
            right = _right(ctx, draft, bench)
            terrain.build(ctx, counted)
            keeping.build(ctx, draft, model)
    outputs = (*middle, *right, _bottom(bench, draft), counted)
    counting.wire(ctx.workspace, draft, model, says, outputs, _drawn)
    bench.loaded.change(lambda spec: spec.get("data", {}), bench.spec, draft, **forms.WRITER)
    bench.spec.change(lambda spec: spec.get("model", ""), bench.spec, model, trigger_mode="always_last", **forms.WRITER)


# Left: the data sets.


def _sets(ctx: Context, draft: gr.State) -> None:
    cards.place("<h3>Data sets</h3>")
    listed = cards.picker("", "data-sets")
    arrived = bring(ctx)

    def choose(held: Draft, event: gr.EventData) -> Draft:
        return {**held, "path": event.pick, "columns": {}}

    listed.select(choose, draft, draft, **forms.WRITER)
    arrived.change(lambda name, held: {**held, "path": name, "columns": {}} if name else held, [arrived, draft], draft, **forms.WRITER)
    gr.on(None, lambda held: _list(ctx, held), [draft], listed, trigger_mode="always_last", **forms.READER)


def _list(ctx: Context, held: Draft) -> str:
    """Every data set with its rows and where it comes from; the one in the draft is pressed."""
    return f'<div class="sets">{"".join(_set(choice, choice.name == held.get("path")) for choice in data_sets(ctx.workspace))}</div>'


def _set(choice: DataChoice, pressed: bool) -> str:
    name, where = cards.escaped(choice.name), " · demo" if choice.where == "demo" else ""
    return (
        f'<button type="button" class="set" data-pick="{name}" aria-pressed="{str(pressed).lower()}">'
        f"<b>{name}</b><span>{choice.rows:,} rows · {cards.escaped(choice.format)}{where}</span></button>"
    )


# Middle: what was found, and the rows.


def _middle(ctx: Context, draft: gr.State, counted: gr.State) -> tuple[Component, ...]:
    error = cards.card_place("data-error")
    found = cards.place(elem_id="data-found")
    issues = cards.picker("", "data-issues")
    with gr.Accordion("Problems", open=False, visible=False, elem_classes=["more"]) as fold:
        problems = cards.place(elem_id="data-problems")
    with gr.Row(elem_classes=["row-tools"]):
        view = gr.Radio(
            VIEWS, value="bubbles", show_label=False, container=False, interactive=True, elem_id="data-view", scale=0, min_width=310
        )
        show = gr.Dropdown(
            SHOWN, value="kept", show_label=False, container=False, interactive=True, elem_id="data-show", scale=1, min_width=120
        )
        search = gr.Textbox(
            "",
            max_lines=1,
            show_label=False,
            container=False,
            placeholder="find in the rows",
            interactive=True,
            elem_id="data-find",
            scale=2,
            min_width=130,
        )
    shown = handwork.build(ctx, draft, counted)
    pager = cards.picker("", "data-pager")
    _paging(ctx, (counted, view, show, search), (shown, pager))
    issues.select(_picked, [draft], [draft, show], **forms.WRITER)
    return error, found, issues, problems, fold


def _picked(held: Draft, event: gr.EventData) -> tuple[Any, Any]:
    """What a finding's button asks for: its rows to be shown, or the step that is for it, which is added once."""
    does, _, what = event.pick.partition(":")
    if does == "show":
        return gr.skip(), gr.Dropdown(choices=[*SHOWN, *([] if what in SHOWN else [what])], value=what)
    steps = held.get("selectors", [])
    there = any(step["method"] == what for step in steps)
    return ({**held, "selectors": [*steps, find("selectors", what)().chosen()]} if not there else gr.skip()), gr.skip()


def _paging(ctx: Context, inputs: tuple[Component, ...], outputs: tuple[gr.HTML, gr.HTML]) -> None:
    """The rows of a page and the pager under them; a change of anything but the pager begins again at the first."""

    def at(offset: int, held: dict[str, Any] | None, view_: str, show_: Any, words: str) -> tuple[str, str]:
        nothing = '<p class="quiet">No rows can be shown.</p>', ""  # why is said above
        if held is None:
            return nothing
        try:
            spec: Any = DataSpec.parse(held["data"])
            tokenizer = counting.tokenizer(held["model"], ctx.workspace)
            found = page(spec, tokenizer, ctx.workspace, offset, LIMIT, show_, words or "", held["model"])
        except WorkbenchError:
            return nothing
        return rows.drawn(found, view_), rows.pager(found, LIMIT)

    def turn(held: dict[str, Any] | None, view_: str, show_: Any, words: str, event: gr.EventData) -> tuple[str, str]:
        return at(int(event.pick), held, view_, show_, words)

    outputs[1].select(turn, list(inputs), list(outputs), **forms.READER)
    gr.on(None, functools.partial(at, 0), list(inputs), list(outputs), trigger_mode="always_last", **forms.READER)


# Right: the recipe and what it makes.


def _right(ctx: Context, draft: gr.State, bench: Bench) -> tuple[Component, ...]:
    with gr.Column(elem_classes=["pictures"]):
        share = cards.place(elem_id="data-share", above_figure=True)
        histogram = gr.Plot(show_label=False, container=False, elem_id="data-histogram", elem_classes=["figure"])
    mistake = cards.card_place("data-recipe-error")
    cards.place("<h3>What is learnt</h3>")

    shown = gr.State(lambda: first_spec()["data"])
    bench.loaded.change(lambda spec: spec.get("data", {}), bench.spec, shown, **forms.WRITER)

    @gr.render(inputs=[shown], **forms.DRAWN)
    def recipe(values: Draft) -> None:
        _recipe(draft, mistake, values)

    portions = mixture.build(ctx, draft)
    cards.place("<h3>Steps that drop rows</h3>")
    _steps(ctx, draft, mistake)
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


def _steps(ctx: Context, draft: gr.State, mistake: gr.HTML) -> None:
    """The selection steps in order, each with its form; they are drawn again when one comes or goes."""
    shape = gr.State([])  # the steps as last drawn; `draft` changes at every knob, and a form must not be redrawn under the hand

    @gr.render(inputs=[shape], **forms.DRAWN)
    def forms_of_steps(steps: list[Draft]) -> None:
        if not steps:
            cards.place('<p class="quiet">No steps: every readable row is kept.</p>')
        names = {"data": [choice.name for choice in data_sets(ctx.workspace)], "model": [name for name, _ in choices(ctx.workspace)]}
        for place, step in enumerate(steps):
            with gr.Column(elem_classes=["step-card"], key=f"step-{place}-{step['method']}"):
                _step(draft, shape, mistake, place, step, names)

    with gr.Row(elem_classes=["row-tools"]):
        which = gr.Dropdown(
            forms.method_choices("selectors"),
            show_label=False,
            container=False,
            interactive=True,
            elem_id="data-step",
            scale=2,
            min_width=150,
        )
        add = gr.Button("Add step", elem_id="data-add", scale=1, min_width=100, size="sm")

    def added(name: str, held: Draft) -> tuple[Draft, list[Draft]]:
        steps = [*held.get("selectors", []), find("selectors", name)().chosen()]
        return {**held, "selectors": steps}, steps

    add.click(added, [which, draft], [draft, shape], **forms.WRITER)
    gr.on(None, _shape_of, [draft, shape], shape, trigger_mode="always_last", **forms.WRITER)


def _shape_of(held: Draft, drawn: list[Draft]) -> Any:
    """New steps only where the methods differ from what is drawn."""
    steps = held.get("selectors", [])
    return gr.skip() if [step["method"] for step in steps] == [step["method"] for step in drawn] else steps


def _step(draft: gr.State, shape: gr.State, mistake: gr.HTML, place: int, step: Draft, names: forms.Names) -> None:
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

    def removed(held: Draft) -> tuple[Draft, list[Draft]]:
        steps = [step for number, step in enumerate(held.get("selectors", [])) if number != place]
        return {**held, "selectors": steps}, steps

    forms.on_input(widgets, moved, [mistake, draft], draft)
    remove.click(removed, draft, [draft, shape], **forms.WRITER)


# Bottom: what will be used.


def _bottom(bench: Bench, draft: gr.State) -> gr.HTML:
    with gr.Row(elem_classes=["bottom-bar"]):
        with gr.Column(scale=4, min_width=240):
            words = cards.place(elem_id="data-kept")
        for tab, label, variant in (("adapter", "Use these, then Adapter", "secondary"), ("train", "Use these, then Train", "primary")):
            button = gr.Button(label, variant=variant, elem_id=f"data-use-{tab}", scale=0, min_width=210)  # type: ignore[arg-type]
            button.click(functools.partial(_use, tab), [draft, bench.spec], [bench.spec, bench.tabs], **forms.WRITER)
    return words


def _use(tab: str, held: Draft, spec: Draft) -> tuple[Draft, Any]:
    return {**spec, "data": held}, gr.Tabs(selected=tab)


def _drawn(found: Look, held: Draft) -> tuple[Any, ...]:
    """Everything that is drawn of a counted recipe, in the order of the places for it."""
    return (
        findings.found(found),
        findings.issues(found),
        cards.table(found.rejects.columns, found.rejects.rows, limit=100),
        gr.Accordion(label=f"Problems · {count(found.rejected, 'row')} that could not be read", visible=bool(found.rejected)),
        cards.tiles([(f"{found.share_trained:.0%}", "of the tokens are learnt", ""), (plots.short(found.trained), "learnt tokens", "")]),
        plots.length_histogram(found.lengths, held["max_length"]),
        mixture.drawn(found.portions),
        findings.scores(found),
        cards.table(found.dropped.columns, found.dropped.rows, limit=100, empty="No row is dropped."),
        findings.kept(found),
    )
