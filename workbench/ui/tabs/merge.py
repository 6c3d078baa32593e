"""The Merge tab: which models, in which shares, by which method, and what that does to scores and answers before anything is saved.

Knows no merge by name: the form (`ui/mergeform.py`) comes from the registry, what it does from `jobs.tasting`, the pictures from the
numbers' own names (`ui/taste.py`). The recipe is a draft of this tab alone (`ui/merging.py`); it becomes a run when it is saved.
Ids: merge-base, merge-models, merge-weight-0 …, merge-method, merge-NAME-KNOB, merge-written, merge-out-KNOB, merge-recipe,
merge-recipe-earlier, merge-recipe-text, merge-recipe-fill, merge-recipe-error, merge-shares-error, merge-error, merge-why, merge-picture,
merge-table, merge-sets, merge-scores, merge-way, merge-answers, merge-search, merge-found, merge-use, merge-name, merge-save,
merge-progress, merge-compare; of a number that varies FIELD-vary, and FIELD-ROW-POINT of each of its numbers.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.events import Finished, Noted, Progress
from workbench.core.spec import MergeSpec
from workbench.jobs.curate import data_sets
from workbench.jobs.merge import preview
from workbench.jobs.searching import search
from workbench.jobs.tasting import NoPreview
from workbench.jobs.tastings import Tastings
from workbench.ui import cards, forms, mergeform, taste
from workbench.ui.bench import Bench
from workbench.ui.context import Context
from workbench.ui.forms import touched
from workbench.ui.merging import Draft, ends_of, spec_of, started, unlike

FIRST = "linear"
REFRESH = 0.1  # seconds between two updates of the bar
NOTHING_SAVED = "Preview only · nothing saved."
tastings = Tastings()


def build(ctx: Context, bench: Bench) -> None:
    """Draw the tab inside the caller's `gr.Tab`."""
    draft, loaded = gr.State(started(_first())), gr.State(0)
    form = mergeform.Form(ctx, draft, loaded, bench.loaded, bench.merge)
    with gr.Row(elem_classes=["tab-columns"]):
        with gr.Column(scale=3, min_width=280):
            base, tuned = mergeform.models(form)
        with gr.Column(scale=4, min_width=300):
            method = mergeform.method(form, _first())
            panel = mergeform.written(form)
            recipe = mergeform.recipe(form)
        with gr.Column(scale=5, min_width=340, elem_classes=["pictures"]):
            below = _effect(ctx, draft)
    below()
    name = _save(ctx, bench, draft)
    mergeform.wire_recipe(form, recipe, [base, tuned, method, name, panel])


def _first() -> str:
    """The method the tab opens with: the plainest, where it is there."""
    names = [name for _, name in forms.method_choices("merges")]
    return FIRST if FIRST in names else names[0]


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

        def wish(held: Draft, wanted: list[str] | None, request: gr.Request) -> None:
            tastings.wish(str(request.session_hash), (held, wanted))

        def tried(held: Draft, wanted: list[str] | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
            for shown in _tried(ctx, held, wanted or []):
                yield shown
                if tastings.wished(str(request.session_hash)) not in (None, (held, wanted)):
                    return  # the person has moved on, and waits for what comes next

        moves = [draft.change, touched(sets)]
        gr.on(moves, wish, [draft, sets], trigger_mode="multiple", **forms.READER)
        gr.on(
            moves, tried, [draft, sets], outputs, trigger_mode="always_last",
            **{**forms.WRITER, "concurrency_limit": 2, "concurrency_id": "merge-taste"},
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
            spec = spec_of(held, "preview")
            for found in tastings.with_open(spec, wanted or [], ctx.workspace, lambda models: search(models, spec)):
                yield cards.note("Opening the models …") if found is None else taste.searched(found, spec.merge.name)
        except WorkbenchError as error:
            yield cards.error_card(error)

    drawn = begin.click(lambda: gr.Button(visible=True), None, leave, **forms.READER).then(
        tried, [draft, sets], shown, **{**forms.WRITER, "concurrency_limit": 1, "concurrency_id": "merge-search"}
    )
    drawn.then(lambda: gr.Button(visible=False), None, leave, **forms.READER)
    leave.click(lambda: gr.Button(visible=False), None, leave, cancels=[drawn], **forms.READER)


def _tried(ctx: Context, held: Draft, sets: list[str]) -> Iterator[tuple[Any, ...]]:
    """(why not, picture, numbers, scores, way, answers), again and again while more is known."""
    nothing = ("",) * 3
    if not held["models"]:
        yield "", taste.HINT, cards.table([], [], empty="Choose the tuned models first."), *nothing
        return
    try:
        spec = spec_of(held, "preview")
        for found in tastings.taste(spec, sets, ctx.workspace):
            if found is None:
                yield cards.note("Opening the models …"), *[gr.skip()] * 5
                continue
            yield (
                unlike(spec), taste.picture(found.table, ends_of(spec)), cards.table(found.table.columns, found.table.rows, limit=400),
                taste.scores(found), taste.way(found) + taste.where(found), taste.answers(found),
            )  # fmt: skip
    except NoPreview as error:
        table = preview(spec, ctx.workspace)
        yield cards.note(str(error), "watch"), taste.picture(table), cards.table(table.columns, table.rows, limit=400), *nothing
    except WorkbenchError as error:
        yield cards.error_card(error), *[gr.skip()] * 5


def _save(ctx: Context, bench: Bench, draft: gr.State) -> gr.Textbox:
    """Name it, write it as a run of its own, and then look at it beside its base; returns the field with its name."""
    with gr.Row(elem_classes=["bottom-bar"]):
        with gr.Column(scale=2, min_width=200):
            name = gr.Textbox(
                "merged", max_lines=1, label="Name of the new model", show_label=False, interactive=True, elem_id="merge-name"
            )
        save = gr.Button("Save as model", variant="primary", elem_id="merge-save", scale=0, min_width=160)
        then = gr.Button("Compare with base", elem_id="merge-compare", scale=0, min_width=170, interactive=False)
        with gr.Column(scale=4, min_width=240):
            says = cards.place(f'<p class="quiet">{NOTHING_SAVED}</p>', "merge-progress")
    saved = gr.State("")

    def write(held: Draft, wanted: str) -> Iterator[tuple[Any, Any, Any, Any]]:
        yield cards.progress(0, 0, "Waiting for its turn …"), "", gr.Button(interactive=False), gr.Button(interactive=False)
        try:
            spec = spec_of(held, wanted.strip())
            for words, over in _written(ctx, spec):
                made = spec.name if over else ""
                yield words, made, gr.Button(interactive=over is not None), gr.Button(interactive=bool(made))
        except WorkbenchError as mistake:
            yield cards.error_card(mistake), "", gr.Button(interactive=True), gr.Button(interactive=False)

    def compare(made: str, held: Draft) -> tuple[Any, dict[str, Any]]:
        return gr.Tabs(selected="compare"), {"models": [held["base"], f"model:{made}"], "prompt": ""}

    save.click(write, [draft, name], [says, saved, save, then], trigger_mode="once", **forms.WRITER)
    then.click(compare, [saved, draft], [bench.tabs, bench.compare], **forms.WRITER)
    return name


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
