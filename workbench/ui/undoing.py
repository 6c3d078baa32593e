"""Taking back what was done to a recipe, step by step: the button, and what it remembers.

Pure functions of a history, and their wiring. What it is not: versions of a data set; a page that is loaded anew has forgotten it.
Ids: data-undo, data-redo.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from workbench.ui import forms

MOST = 100  # recipes that are remembered
Draft = dict[str, Any]
History = dict[str, Any]
EMPTY: History = {"past": [], "now": None, "future": []}


def noted(history: History, now: Draft) -> History:
    """The history after the recipe became what it is `now`; what was taken back before cannot be done again then."""
    if now == history["now"]:
        return history
    past = [] if history["now"] is None else [*history["past"], history["now"]][-MOST:]
    return {"past": past, "now": now, "future": []}


def back(history: History) -> History:
    """The history one step earlier; the same where there is none."""
    *past, now = history["past"] or [history["now"]]
    return {"past": past, "now": now, "future": [history["now"], *history["future"]]} if history["past"] else history


def again(history: History) -> History:
    """The history one step later; the same where nothing was taken back."""
    now, *future = history["future"] or [history["now"]]
    return {"past": [*history["past"], history["now"]], "now": now, "future": future} if history["future"] else history


def build(draft: gr.State, redrawn: Callable[..., tuple[Any, ...]], forms_of: list[gr.State]) -> None:
    """Draw the two buttons. `redrawn` gives from a recipe and the values of `forms_of` those that draw the recipe's forms anew."""
    history = gr.State(EMPTY)
    with gr.Row(elem_classes=["row-tools"]):
        undo = gr.Button("Undo", size="sm", interactive=False, elem_id="data-undo", min_width=70)
        redo = gr.Button("Redo", size="sm", interactive=False, elem_id="data-redo", min_width=70)

    def moved(by: Callable[[History], History]) -> Callable[[History], tuple[Any, ...]]:
        def move(held: History, *drawn: Any) -> tuple[Any, ...]:
            then = by(held)
            return (gr.skip(),) * len(outputs) if then is held else (then, *_buttons(then), then["now"], *redrawn(then["now"], *drawn))

        return move

    def noticed(held: History, now: Draft) -> tuple[Any, Any, Any]:
        then = noted(held, now)
        return (gr.skip(),) * 3 if then is held else (then, *_buttons(then))

    outputs = [history, undo, redo, draft, *forms_of]
    gr.on(None, noticed, [history, draft], [history, undo, redo], trigger_mode="always_last", **forms.WRITER)
    undo.click(moved(back), [history, *forms_of], outputs, **forms.WRITER)
    redo.click(moved(again), [history, *forms_of], outputs, **forms.WRITER)


def _buttons(history: History) -> tuple[Any, Any]:
    return gr.Button(interactive=bool(history["past"])), gr.Button(interactive=bool(history["future"]))
