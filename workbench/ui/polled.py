"""A piece of HTML that the server draws and the page asks for again and again, while somebody looks at it.

It rides on the page's pulse and is answered with nothing but its key when nothing changed. What it is not: the way to
change anything; a read function only reads. Buttons inside the HTML carry `data-event="name"` and arrive as ordinary
Gradio events of that name.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from workbench.ui.pulse import Pulse

Read = Callable[[Any], tuple[str, str]]
"""`read(value)` → (HTML, state). A change of state triggers the event `moved`, so that buttons elsewhere can follow."""


def polled(
    pulse: Pulse, read: Read, elem_id: str, every: float = 1.0, events: Sequence[str] = (), value: Any = None, around: str = "{}"
) -> gr.HTML:
    """The component; `read` gets its value and must escape what people wrote. `around` is fixed HTML with `{}` for the piece.

    `events` are the names in `data-event` that listeners wait for: `piece.stop(handler)`; `moved` is always there.
    """

    def poll(asked: dict[str, Any]) -> dict[str, Any]:
        drawn, state = read(asked.get("value"))
        key = f"{zlib.crc32(drawn.encode()):08x}"
        return {"key": key, "state": state} | ({} if asked.get("key") == key else {"html": drawn})

    pulse.piece(elem_id, poll)
    return gr.HTML(
        value=value,
        html_template=around.replace("{}", f'<div class="polled" data-piece="{elem_id}"></div>'),
        js_on_load=f"Workbench.polled(element, props, trigger, watch, {round(every * 1000)}); {_named(*events, 'moved')}",
        apply_default_css=False,
        elem_id=elem_id,
    )


def pressed(value: str, elem_id: str, events: Sequence[str]) -> gr.HTML:
    """HTML that stands still until an event draws it anew, with the same `data-event` buttons."""
    return gr.HTML(
        value=value,
        html_template="${value}",
        js_on_load=f"Workbench.relay(element, trigger); {_named(*events)}",
        apply_default_css=False,
        elem_id=elem_id,
    )


def _named(*events: str) -> str:
    """The events as a line of JavaScript that does nothing: Gradio lets one listen to what stands quoted in the script.

    Nothing else may stand quoted there: a quoted `every` made Gradio take that argument for an event and copy the whole
    page's objects into each answer (measured: 2 s of processor time for a page).
    """
    return json.dumps(list(events))
