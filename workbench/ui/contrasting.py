"""A selection kept in mind beside the one in work: what both keep, what only one keeps, and those rows to look at.

Part of the Data tab. The counting is `jobs/contrast.py`'s. Ids: data-contrast, data-remember, data-contrast-found (buttons
`[data-pick=here]`, `[data-pick=there]`).
"""

from typing import Any

import gradio as gr

from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.words import count
from workbench.jobs.contrast import Contrast, contrast
from workbench.ui import cards, forms
from workbench.ui.context import Context

HINT = '<p class="quiet">Keep this selection in mind, change the steps, and see here what the two have in common.</p>'
Seen = dict[str, Any] | None


def build(ctx: Context, counted: gr.State, narrow: gr.State, show: gr.Dropdown) -> None:
    """Draw the section; `counted` holds the recipe and the model whose rows are shown, or None."""
    kept = gr.State(None)  # the one in mind, as `counted` held it
    with gr.Accordion("Compare two selections", open=False, elem_id="data-contrast", elem_classes=["more"]):
        remember = gr.Button("Keep this selection in mind", elem_id="data-remember", size="sm")
        shown = cards.picker(HINT, "data-contrast-found")

    def drawn(one: Seen, other: Seen) -> Any:
        if one is None:
            return HINT
        if other is None:
            return gr.skip()
        try:
            return found(_contrast(ctx, one, other))
        except cards.PROBLEMS as error:
            return cards.problem(error)

    def listed(one: Seen, other: Seen, held: dict[str, Any], event: gr.EventData) -> tuple[Any, Any]:
        if one is None or other is None:
            return gr.skip(), gr.skip()
        try:
            both = _contrast(ctx, one, other)
        except cards.PROBLEMS:  # the data set is another one by now, which is said where the buttons were
            return gr.skip(), gr.skip()
        rows, by = (both.only_other, "this selection") if event.pick == "here" else (both.only_one, "the one in mind")
        return {**held, "rows": tuple(rows), "says": f"that only {by} keeps"}, "all"

    remember.click(lambda seen: seen, counted, kept, **forms.WRITER)
    shown.select(listed, [kept, counted, narrow], [narrow, show], **forms.WRITER)
    gr.on([kept.change, counted.change], drawn, [kept, counted], shown, trigger_mode="always_last", **forms.READER)


def found(both: Contrast) -> str:
    """The three parts as a bar, in words, and the way to their rows."""
    parts = [("only the one in mind", both.only_one, "there"), ("both", both.both, ""), ("only this one", both.only_other, "here")]
    every = sum(len(rows) for _, rows, _ in parts) or 1
    bar = "".join(
        f'<i style="width:{len(rows) / every:.2%};background:var(--series-{place})" title="{words}: {len(rows):,}"></i>'
        for place, (words, rows, _) in enumerate(parts, 1)
    )
    lines = "".join(_line(place, words, rows, does) for place, (words, rows, does) in enumerate(parts, 1))
    return (
        f'<div class="parts" role="img" aria-label="{both.overlap:.0%} of what either keeps is kept by both">{bar}</div>'
        f'<ul class="issues">{lines}</ul><p class="quiet">{both.overlap:.0%} of what either keeps is kept by both.</p>'
    )


def _line(place: int, words: str, rows: list[int], does: str) -> str:
    button = f' <button type="button" data-pick="{does}">Show them</button>' if does and rows else ""
    return f'<li style="border-color:var(--series-{place})">{cards.escaped(words)}: {count(len(rows), "row")}{button}</li>'


def _contrast(ctx: Context, one: dict[str, Any], other: dict[str, Any]) -> Contrast:
    first: Any = DataSpec.parse(one["data"])
    second: Any = DataSpec.parse(other["data"])
    return drain(contrast(first, second, ctx.workspace, one["model"], other["model"]))
