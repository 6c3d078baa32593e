"""Several data sets in one run: a weight for each, and what share of the tokens that is.

Part of the Data tab. The draft holds the further sets under `mix`; forms are drawn again when one comes or goes, never under the hand.
Ids: data-mix-which, data-mix-add, data-mix-weight-I, data-mix-remove-I, data-portions.
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from workbench.core.parts import MixPart
from workbench.core.words import number
from workbench.jobs.curate import data_sets
from workbench.jobs.mixing import Portion
from workbench.ui import cards, forms
from workbench.ui.context import Context

Draft = dict[str, Any]
MOST = 10  # largest weight that a slider gives; a spec may say more


def build(ctx: Context, draft: gr.State, turn: gr.State) -> gr.HTML:
    """Draw the section; returns the place for `drawn`."""
    shape = gr.State([])  # the paths as last drawn
    with gr.Accordion("Mixture", open=False, elem_id="data-mixture", elem_classes=["more"]):
        cards.place(
            '<p class="quiet">Learn from several data sets at once. A weight says how many tokens of a set come for one of another.</p>'
        )

        @gr.render(inputs=[shape, draft], triggers=[shape.change, turn.change], **forms.DRAWN)
        def weights(paths: list[str], held: Draft) -> None:
            for place, path in enumerate(paths):
                _weight(draft, shape, place, path, held)

        with gr.Row(elem_classes=["row-tools"]):
            which = gr.Dropdown(
                [choice.name for choice in data_sets(ctx.workspace)], value=None, label="Another data set", show_label=False,
                container=False, interactive=True, elem_id="data-mix-which", scale=2, min_width=150, allow_custom_value=True,
            )  # fmt: skip
            add = gr.Button("Add a data set", elem_id="data-mix-add", scale=1, min_width=100, size="sm")
        shown = cards.place(elem_id="data-portions")
    add.click(_added, [which, draft], draft, trigger_mode="multiple", **forms.WRITER)
    which.focus(lambda: gr.Dropdown(choices=[choice.name for choice in data_sets(ctx.workspace)]), None, which, **forms.READER)
    gr.on(None, _shape_of, [draft, shape], shape, trigger_mode="always_last", **forms.WRITER)
    return shown


def drawn(portions: Sequence[Portion]) -> str:
    """The share of each set as a bar, and how often an epoch sees it."""
    rows = "".join(
        f'<li><b>{cards.escaped(one.name)}</b><div class="bar"><i style="width:{one.share:.1%}"></i></div>'
        f"<span>{one.share:.0%} of the tokens · each row {number(one.epochs)} times an epoch · {one.rows:,} rows"
        f"{f'<br>{cards.escaped(one.classes.told())}' if one.classes else ''}</span></li>"
        for one in portions
    )
    return f'<ul class="portions">{rows}</ul>' if rows else ""


def _weight(draft: gr.State, shape: gr.State, place: int, path: str, held: Draft) -> None:
    """The weight of one set; the first is the recipe's own and cannot be taken away."""
    given = held if place == 0 else held["mix"][place - 1]
    with gr.Row(elem_classes=["row-tools"], key=f"mix-{path}"):
        slider = gr.Slider(
            0, max(MOST, given.get("weight", 1.0)), given.get("weight", 1.0), step=0.1, label=path, interactive=True,
            elem_id=f"data-mix-weight-{place}", key=f"mix-weight-{path}", preserved_by_key=[], scale=3, min_width=160,
        )  # fmt: skip
        if place:
            remove = gr.Button(
                "Remove", size="sm", elem_id=f"data-mix-remove-{place}", elem_classes=["quiet-button"], scale=0, min_width=80
            )
            remove.click(lambda held: _removed(held, path), draft, draft, **forms.WRITER)
    slider.input(lambda weight, held: weighed(held, path, weight), [slider, draft], draft, trigger_mode="always_last", **forms.WRITER)


def _added(path: str | None, held: Draft) -> Any:
    """The draft with one more set; one that is in it already is not taken twice."""
    mix = held.get("mix", [])
    if not path or path in (held.get("path"), *(part["path"] for part in mix)):
        return gr.skip()
    return {**held, "mix": [*mix, MixPart(path=path).model_dump()]}


def weighed(held: Draft, path: str, weight: float) -> Draft:
    """The draft with another weight for a set."""
    if held.get("path") == path:
        return {**held, "weight": weight}
    return {**held, "mix": [{**part, "weight": weight} if part["path"] == path else part for part in held.get("mix", [])]}


def _removed(held: Draft, path: str) -> Draft:
    return {**held, "mix": [part for part in held.get("mix", []) if part["path"] != path]}


def _shape_of(held: Draft, drawn_: list[str]) -> Any:
    """New paths only where they differ from what is drawn; without a mixture none."""
    paths = [held.get("path", ""), *(part["path"] for part in held["mix"])] if held.get("mix") else []
    return gr.skip() if paths == drawn_ else paths
