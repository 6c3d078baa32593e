"""The Merge tab: which models, in which shares, by which method, and what that does to scores and answers before anything is saved.

Knows no merge by name: the form comes from the registry, what it does from `jobs.tasting`, the pictures from the numbers' own
names (`ui/taste.py`). The recipe is a draft of this tab alone; it becomes a run when it is saved.
Ids: merge-base, merge-models, merge-weight-0 …, merge-method, merge-NAME-KNOB, merge-written, merge-out-KNOB, merge-error, merge-why,
merge-picture, merge-table, merge-sets, merge-scores, merge-way, merge-answers, merge-search, merge-found, merge-use, merge-name,
merge-save, merge-progress, merge-compare.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Finished, Noted, Progress
from workbench.core.method import Knob, find, knobs_of
from workbench.core.spec import MergeSpec, parse_spec
from workbench.jobs.curate import data_sets
from workbench.jobs.estimate import choices
from workbench.jobs.merge import preview
from workbench.jobs.searching import search
from workbench.jobs.tasting import NoPreview, Tastings
from workbench.ui import cards, forms, taste
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.forms import touched

Draft = dict[str, Any]
FIRST = "linear"
REFRESH = 0.1  # seconds between two updates of the bar
STACK = Knob("stack", "layers, stacked", "text", "", MergeSpec.model_fields["stack"].description or "")  # in words
NOTHING_SAVED = "Preview only · nothing saved."
tastings = Tastings()


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    draft = gr.State({"base": "pocket", "models": [], "merge": find("merges", _first())().chosen(), "dtype": "as base"})
    with gr.Row(elem_classes=["tab-columns"]):
        with gr.Column(scale=3, min_width=280):
            _models(ctx, draft)
        with gr.Column(scale=4, min_width=300):
            _method(draft)
        with gr.Column(scale=5, min_width=340, elem_classes=["pictures"]):
            below = _effect(ctx, draft)
    below()
    _save(ctx, bench, draft)


def _first() -> str:
    """The method the tab opens with: the plainest, where it is there."""
    names = [name for _, name in forms.method_choices("merges")]
    return FIRST if FIRST in names else names[0]


def _choices(ctx: Context) -> list[tuple[str, str]]:
    return [(label, reference) for reference, label in choices(ctx.workspace)]


def _models(ctx: Context, draft: gr.State) -> None:
    """The base, the tuned models, and a slider for each one's share."""
    cards.place("<h3>Models</h3>")
    common: dict[str, Any] = {"choices": _choices(ctx), "allow_custom_value": True, "interactive": True}
    base = gr.Dropdown(value="pocket", label="Base", info="What all of them were tuned from", elem_id="merge-base", **common)
    tuned = gr.Dropdown(
        value=[],
        multiselect=True,
        label="Tuned models",
        info="Two or more; finished runs and saved models",
        elem_id="merge-models",
        **common,
    )
    for box in (base, tuned):
        box.focus(lambda: gr.Dropdown(choices=_choices(ctx)), None, box, **forms.READER)
    base.input(lambda chosen, held: {**held, "base": chosen or ""}, [base, draft], draft, **forms.WRITER)
    forms.spell_out(tuned, lambda: _choices(ctx))
    forms.touched(tuned)(_chosen, [tuned, draft], draft, **forms.WRITER)
    cards.place("<h3>Shares</h3>")

    @gr.render(inputs=[tuned], **forms.DRAWN)
    def sliders(models: list[str]) -> None:
        if not models:
            cards.place('<p class="quiet">Choose the tuned models first. Two finished runs of one base are enough.</p>')
            return
        labels = dict(choices(ctx.workspace))
        drawn = {model: _share(labels.get(model, model), model, number) for number, model in enumerate(models)}

        def moved(given: dict[Component, Any]) -> Draft:
            return {**given[draft], "models": [{"model": model, "weight": float(given[slider])} for model, slider in drawn.items()]}

        forms.on_input(drawn, moved, draft, draft)


def _share(label: str, model: str, number: int) -> gr.Slider:
    return gr.Slider(
        minimum=-1,
        maximum=2,
        step=0.05,
        value=1.0,
        label=label,
        interactive=True,
        key=f"merge-weight-{model}",
        elem_id=f"merge-weight-{number}",
    )


def _chosen(models: list[str] | None, held: Draft) -> Draft:
    """The chosen models in the draft; one that stays keeps its share."""
    shares = {given["model"]: given["weight"] for given in held["models"]}
    return {**held, "models": [{"model": model, "weight": shares.get(model, 1.0)} for model in models or []]}


def _method(draft: gr.State) -> None:
    """Which merge, its form, and what is written."""
    cards.place("<h3>Method</h3>")
    method = gr.Dropdown(
        choices=forms.method_choices("merges"), value=_first(), label="How they become one", interactive=True, elem_id="merge-method"
    )
    error = cards.card_place("merge-error")
    method.input(lambda name, held: {**held, "merge": find("merges", name)().chosen()}, [method, draft], draft, **forms.WRITER)

    @gr.render(inputs=[method], **forms.DRAWN)
    def form(name: str) -> None:
        widgets = forms.method_block("merges", {"method": name}, "merge")

        def moved(given: dict[Component, Any]) -> tuple[str, Any]:
            try:
                return "", {**given[draft], "merge": forms.method_from("merges", name, widgets, given)}
            except WorkbenchError as mistake:
                return cards.error_card(mistake), gr.skip()

        forms.on_input(widgets, moved, [error, draft], draft)

    with gr.Accordion("What is written", open=False, elem_id="merge-written", elem_classes=["more"]) as panel:

        @gr.render(inputs=[draft], triggers=[panel.expand], **forms.DRAWN)
        def written(held: Draft) -> None:
            knobs = [*knobs_of(MergeSpec), STACK]
            with gr.Column(elem_classes=["knobs"]):
                widgets = {knob.name: forms.widget(knob, held.get(knob.name, knob.default), "merge-out") for knob in knobs}

            def moved(given: dict[Component, Any]) -> tuple[str, Any]:
                try:
                    return "", {**given[draft], **forms.collect(knobs, {name: given[widget] for name, widget in widgets.items()})}
                except WorkbenchError as mistake:
                    return cards.error_card(mistake), gr.skip()

            forms.on_input(widgets, moved, [error, draft], draft)


def _effect(ctx: Context, draft: gr.State) -> Callable[[], None]:
    """What the merge would do, tried in memory each time the draft changes; of many moves only the last is tried.

    The picture and its numbers are drawn here; returns how to draw the rest, which stands below the columns.
    """
    cards.place("<h3>What it does</h3>")
    why = cards.card_place("merge-why")
    picture = gr.HTML(taste.HINT, elem_id="merge-picture", apply_default_css=False, js_on_load="Workbench.handles(element)")
    with gr.Accordion("The numbers, tensor by tensor", open=False, elem_classes=["more"]):
        table = cards.place(elem_id="merge-table")

    def below() -> None:
        with gr.Row(elem_classes=["tab-columns", "effect"]):
            with gr.Column(scale=5, min_width=340):
                cards.place("<h3>Scores</h3>")
                sets = gr.Dropdown(
                    [choice.name for choice in data_sets(ctx.workspace)], value=[], multiselect=True, label="Score on these too",
                    info="The rows that the models' own runs held back are scored in any case", elem_id="merge-sets",
                )  # fmt: skip
                scores = cards.place(elem_id="merge-scores")
                _search(ctx, draft, sets)
            with gr.Column(scale=4, min_width=300):
                way = cards.place(elem_id="merge-way")
            with gr.Column(scale=4, min_width=300):
                answers = cards.place(elem_id="merge-answers")
        outputs = [why, picture, table, scores, way, answers]
        gr.on(
            [draft.change, touched(sets)], lambda held, wanted: (yield from _tried(ctx, held, wanted or [])), [draft, sets], outputs,
            trigger_mode="always_last", concurrency_id="merge-taste", **{**forms.WRITER, "concurrency_limit": 2},
        )  # fmt: skip

    return below


def _search(ctx: Context, draft: gr.State, sets: gr.Dropdown) -> None:
    """Good settings on request: the search as it goes, which can be left, and its best, which a button types into the form."""
    with gr.Row(elem_classes=["after"]):
        begin = gr.Button("Find good settings", size="sm", elem_id="merge-search", min_width=140)
        leave = gr.Button("Leave it", size="sm", elem_id="merge-search-leave", visible=False, min_width=80)
    shown = gr.HTML(elem_id="merge-found", apply_default_css=False, js_on_load="Workbench.filling(element)")

    def tried(held: Draft, wanted: list[str] | None) -> Iterator[str]:
        try:
            spec = _spec(held, "preview")
            for found in tastings.with_open(spec, wanted or [], ctx.workspace, lambda models: search(models, spec)):
                yield cards.note("Opening the models …") if found is None else taste.searched(found, spec.merge.name)
        except WorkbenchError as error:
            yield cards.error_card(error)

    drawn = begin.click(lambda: gr.Button(visible=True), None, leave, **forms.READER).then(
        tried, [draft, sets], shown, **{**forms.WRITER, "concurrency_limit": 1}
    )
    drawn.then(lambda: gr.Button(visible=False), None, leave, **forms.READER)
    leave.click(lambda: gr.Button(visible=False), None, leave, cancels=[drawn], **forms.READER)


def _tried(ctx: Context, held: Draft, sets: list[str]) -> Iterator[tuple[Any, ...]]:
    """(why not, picture, numbers, scores, way, answers), first without the answers of the merged model."""
    nothing = ("",) * 3
    if not held["models"]:
        yield "", taste.HINT, cards.table([], [], empty="Choose the tuned models first."), *nothing
        return
    try:
        spec = _spec(held, "preview")
        for found in tastings.taste(spec, sets, ctx.workspace):
            if found is None:
                yield cards.note("Opening the models and asking each of them …"), *[gr.skip()] * 5
                continue
            yield (
                _unlike(spec), taste.picture(found.table, _widgets(spec)), cards.table(found.table.columns, found.table.rows, limit=400),
                taste.scores(found), taste.way(found) + taste.where(found), taste.answers(found),
            )  # fmt: skip
    except NoPreview as error:
        table = preview(spec, ctx.workspace)
        yield cards.note(str(error), "watch"), taste.picture(table), cards.table(table.columns, table.rows, limit=400), *nothing
    except WorkbenchError as error:
        yield cards.error_card(error), *[gr.skip()] * 5


def _unlike(spec: MergeSpec) -> str:
    """In what an adapter will differ from the model that is tried here."""
    if spec.of == "factors":
        return cards.note("This is the merge of the changes. The adapter is made of A and B apart, so it will differ.", "watch")
    if spec.rank:
        return cards.note(f"This is the merge before it is cut to rank {spec.rank}. When it is saved, the run says how much is kept.")
    return ""


def _widgets(spec: MergeSpec) -> tuple[str, str] | None:
    """The sliders that the ends of the method's curve stand for, if it has one that can be drawn so."""
    ends = spec.merge.ends if not spec.vary else None
    return (f"merge-{spec.merge.name}-{ends[0]}", f"merge-{spec.merge.name}-{ends[1]}") if ends else None


def _spec(held: Draft, name: str) -> MergeSpec:
    if not held["models"]:
        raise SpecError(["no tuned model is chosen; choose two or more on the left"])
    return parse_spec({"kind": "merge", "name": name, **held})  # type: ignore[return-value]


def _save(ctx: Context, bench: Bench, draft: gr.State) -> None:
    """Name it, write it as a run of its own, and then look at it beside its base."""
    with gr.Row(elem_classes=["bottom-bar"]):
        with gr.Column(scale=2, min_width=200):
            name = gr.Textbox(
                "merged", max_lines=1, show_label=False, placeholder="name of the new model", interactive=True, elem_id="merge-name"
            )
        save = gr.Button("Save as model", variant="primary", elem_id="merge-save", scale=0, min_width=160)
        then = gr.Button("Compare with base", elem_id="merge-compare", scale=0, min_width=170, interactive=False)
        with gr.Column(scale=4, min_width=240):
            says = cards.place(f'<p class="quiet">{NOTHING_SAVED}</p>', "merge-progress")
    saved = gr.State("")

    def write(held: Draft, wanted: str) -> Iterator[tuple[Any, Any, Any, Any]]:
        yield cards.progress(0, 0, "Waiting for its turn …"), "", gr.Button(interactive=False), gr.Button(interactive=False)
        try:
            spec = _spec(held, wanted.strip())
            for words, over in _written(ctx, spec):
                made = spec.name if over else ""
                yield words, made, gr.Button(interactive=over is not None), gr.Button(interactive=bool(made))
        except WorkbenchError as mistake:
            yield cards.error_card(mistake), "", gr.Button(interactive=True), gr.Button(interactive=False)

    def compare(made: str, held: Draft) -> tuple[Any, dict[str, Any]]:
        return gr.Tabs(selected="compare"), {"models": [held["base"], f"model:{made}"], "prompt": ""}

    save.click(write, [draft, name], [says, saved, save, then], trigger_mode="once", **forms.WRITER)
    then.click(compare, [saved, draft], [bench.tabs, bench.compare], **forms.WRITER)


def _written(ctx: Context, spec: MergeSpec) -> Iterator[tuple[str, bool | None]]:
    """(what to show, True when the model is there, False when it failed, None while it works).

    The run goes on when the page is closed: it is in the list of runs.
    """
    noted: list[str] = []
    last = 0.0
    for event in ctx.runner.watch(ctx.runner.submit(spec)):
        if isinstance(event, Progress) and time.monotonic() - last >= REFRESH:
            last = time.monotonic()
            yield cards.progress(event.done, event.total, f"writing {spec.name}" if event.what in ("", "bytes") else event.what), None
        elif isinstance(event, Noted):
            noted.append(event.text)
        elif isinstance(event, Finished) and event.status == "finished":
            yield cards.note(" ".join([f"{spec.name} is saved.", *noted]), "safe"), True
        elif isinstance(event, Finished):
            yield cards.error_card(WorkbenchError(event.message or f"The merge was {event.status}. Nothing was written.")), False
