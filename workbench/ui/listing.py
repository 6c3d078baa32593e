"""The rows of a data set under a recipe, twenty at a time: which, in which order and how they are shown; what is done with many at once.

Part of the Data tab. The rows are `jobs/paging.py`'s, their markup `rows.py`'s and `narrowed.py`'s; single rows are `handwork.py`'s.
Ids: data-view, data-show, data-find, data-numbers, data-by, data-part, data-order, data-range, data-pager, and those of handwork.
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.jobs.handiwork import brought_back, dropped
from workbench.jobs.numbers import PARTS, as_step, of_steps, statistics
from workbench.jobs.paging import ORDERS, Page, Wanted, listing, marks, paging
from workbench.jobs.steps import sifted
from workbench.ui import cards, counting, forms, handwork, narrowed, rows
from workbench.ui.context import Context
from workbench.ui.watching import watched

LIMIT = 20  # rows on a page
SHOWN = ["kept", "dropped", "nothing to learn", "all"]
VIEWS = [("bubbles", "bubbles"), ("table", "table"), ("tokens", "tokens")]
NO_NUMBER = ("no number", "")
NOTHING = '<p class="quiet">No rows can be shown.</p>', ""  # why is said above
Seen = dict[str, Any] | None
"""The recipe and the model whose rows are shown; None while they are being counted."""


def build(ctx: Context, draft: gr.State, counted: gr.State, narrow: gr.State) -> gr.Dropdown:
    """Draw the tools, the rows and the pager. `narrow` holds what narrows the rows (`narrowed.WHOLE`). Returns which rows are shown."""
    tools: dict[str, Any] = {"show_label": False, "container": False, "interactive": True}
    with gr.Row(elem_classes=["row-tools"]):
        view = gr.Radio(VIEWS, value="bubbles", label="Rows as", elem_id="data-view", scale=0, min_width=310, **tools)
        show = gr.Dropdown(SHOWN, value="kept", label="Which rows", elem_id="data-show", scale=1, min_width=120, **tools)
        search = gr.Textbox(
            "", label="Find in the rows", max_lines=1, placeholder="find in the rows", elem_id="data-find", scale=2, min_width=130, **tools
        )
    with (
        gr.Accordion("Sort and pick by a number", open=False, elem_id="data-numbers", elem_classes=["more"]),
        gr.Row(elem_classes=["row-tools"]),
    ):
        names = [NO_NUMBER, *_named(statistics())]
        by = gr.Dropdown(names, value="", label="By which number", elem_id="data-by", scale=3, min_width=150, **tools)
        part = gr.Dropdown(list(PARTS), value="answer", label="Of which part", elem_id="data-part", scale=1, min_width=100, **tools)
        order = gr.Dropdown(list(ORDERS), value=ORDERS[0], label="In which order", elem_id="data-order", scale=2, min_width=130, **tools)
    ranged = gr.HTML(elem_id="data-range", js_on_load=f"{cards.PICK} Workbench.stretching(element, trigger);", apply_default_css=False)
    shown = handwork.build(ctx, draft, counted)
    pager = cards.picker("", "data-pager")
    _wire_numbers(ctx, counted, narrow, by, part, order)
    _wire_pages(ctx, [counted, view, show, search, narrow], [shown, pager, ranged])
    _wire_many(ctx, ranged, [draft, counted, show, search, narrow], draft, narrow)
    return show


def _named(names: list[str]) -> list[tuple[str, str]]:
    return [(forms.in_words(name), name) for name in names]


def _wire_numbers(ctx: Context, counted: gr.State, narrow: gr.State, by: gr.Dropdown, part: gr.Dropdown, order: gr.Dropdown) -> None:
    """Another number begins with its whole range; the steps' numbers come and go with the recipe."""
    listed = gr.State("")  # the data set whose rows are listed: what narrows them means nothing for another one

    def chosen(name: str, of: str, in_order: str, held: dict[str, Any]) -> dict[str, Any]:
        same = (name, of) == (held["by"], held["part"])
        return {**held, "by": name, "part": of, "order": in_order, **({} if same else {"least": None, "most": None})}

    def offered(seen: Seen, held: dict[str, Any], of: str) -> tuple[Any, Any, Any]:
        if seen is None:
            return (gr.skip(),) * 3
        spec: Any = DataSpec.parse(seen["data"])
        names = [NO_NUMBER, *of_steps(drain(sifted(spec, ctx.workspace, seen["model"]))), *_named(statistics())]
        if held["by"] not in (name for _, name in names) or (of != spec.path and (held["by"] or held["rows"] is not None)):
            return gr.Dropdown(choices=names, value=""), {**narrowed.WHOLE, "part": held["part"], "order": held["order"]}, spec.path
        return gr.Dropdown(choices=names), gr.skip(), spec.path

    gr.on([by.input, part.input, order.input], chosen, [by, part, order, narrow], narrow, trigger_mode="always_last", **forms.WRITER)
    counted.change(offered, [counted, narrow, listed], [by, narrow, listed], trigger_mode="always_last", **forms.WRITER)


def _wire_pages(ctx: Context, inputs: list[Any], outputs: list[Any]) -> None:
    """A page of rows, the pager under it and the picture above it; a change of anything but the pager begins again at the first."""

    def first(seen: Seen, view: str, show: str, words: str, narrow: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        try:
            for said in _paged(ctx, seen, _wanted(show, words, narrow), 0):
                if isinstance(said, Page):
                    yield rows.drawn(said, view), rows.pager(said, LIMIT), narrowed.drawn(said, narrow, show, words)
                else:
                    yield gr.skip(), gr.skip(), said
        except WorkbenchError as error:
            yield *NOTHING, cards.error_card(error) if seen else ""

    def turned(seen: Seen, view: str, show: str, words: str, narrow: dict[str, Any], event: gr.EventData) -> tuple[str, str]:
        try:
            *_, found = _paged(ctx, seen, _wanted(show, words, narrow), int(event.pick))
        except WorkbenchError:
            return NOTHING
        return (rows.drawn(found, view), rows.pager(found, LIMIT)) if isinstance(found, Page) else NOTHING

    outputs[1].select(turned, inputs, outputs[:2], **forms.READER)
    gr.on(None, first, inputs, outputs, trigger_mode="always_last", **forms.WRITER)


def _wire_many(ctx: Context, ranged: gr.HTML, inputs: list[Any], draft: gr.State, narrow: gr.State) -> None:
    """What the buttons and the picture above the rows do: to what narrows them, or to the recipe."""

    def done(recipe: dict[str, Any], seen: Seen, show: str, words: str, held: dict[str, Any], event: gr.EventData) -> tuple[Any, Any, Any]:
        does, _, rest = event.pick.partition(":")
        if does == "range":
            return {**held, **narrowed.read_ends(*rest.split(":", 1))}, gr.skip(), gr.skip()
        if does in ("whole", "every"):
            return {**held, **({"least": None, "most": None} if does == "whole" else {"rows": None, "says": ""})}, gr.skip(), gr.skip()
        if does == "step":
            step = as_step(narrowed.number_of(held), *narrowed.ends(held))
            whole = {**held, "least": None, "most": None}
            return whole, {**recipe, "selectors": [*recipe.get("selectors", []), step]}, gr.skip()
        try:
            return gr.skip(), _by_hand(ctx, does, recipe, seen, _wanted(show, words, held)), gr.skip()
        except WorkbenchError as error:
            return gr.skip(), gr.skip(), cards.error_card(error)

    ranged.select(done, inputs, [narrow, draft, ranged], **forms.WRITER)


def _wanted(show: str, words: str, narrow: dict[str, Any]) -> Wanted:
    least, most = narrowed.ends(narrow)
    return Wanted(show, words or "", narrowed.number_of(narrow), least, most, narrow["order"], narrow["rows"])


def _paged(ctx: Context, seen: Seen, wanted: Wanted, offset: int) -> Iterator[str | Page]:
    """A bar while it takes long, then the page.

    Raises:
        WorkbenchError: nothing is counted, or the rows cannot be had.
    """
    if seen is None:
        raise WorkbenchError("The rows are being counted.")
    spec: Any = DataSpec.parse(seen["data"])
    tokenizer = counting.tokenizer(seen["model"], ctx.workspace)
    yield from watched(paging(spec, tokenizer, ctx.workspace, wanted, offset, LIMIT, seen["model"]))


def _by_hand(ctx: Context, does: str, recipe: dict[str, Any], seen: Seen, wanted: Wanted) -> dict[str, Any]:
    """The recipe with the listed rows dropped, or brought back."""
    if seen is None:  # the rows are of before, and what they are of is being counted
        return recipe
    spec: Any = DataSpec.parse(seen["data"])
    tokenizer = counting.tokenizer(seen["model"], ctx.workspace)
    own = marks(drain(listing(spec, tokenizer, ctx.workspace, wanted, seen["model"])))
    return (dropped if does == "drop" else brought_back)(recipe, own)
