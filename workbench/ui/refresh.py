"""A list that is drawn anew while a person may choose from it: its names come from the server, what is chosen stays with the person.

An answer comes after what it was asked with. If it said again what was chosen then, it would take back what was chosen since; so it says a
value only where the one it was asked with cannot stay. What follows from the choice (a chart, buttons) is asked for by the control itself,
when its value changes, and never told by the list. What it is not: the way to put a whole other spec into a form, which a person asks for.
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr

Names = Sequence[str] | Sequence[tuple[str, str]]


def relisted(names: Names, held: str | None, wanted: str | None, **more: Any) -> gr.Dropdown:
    """The list with these names, or (label, value) pairs. `held`: what is chosen as the page asks; `wanted`: what should be, most often the
    same."""
    return gr.Dropdown(list(names), **more) if wanted == held else gr.Dropdown(list(names), value=wanted, **more)
