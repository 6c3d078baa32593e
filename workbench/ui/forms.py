"""Forms from knobs: a typed knob becomes a widget, and the widgets' values become typed knobs again.

What it is not: it knows no method, no tab and no spec. A knob says its range once (`core.method.knob`); label, unit, help,
widget and the sentence about a wrong value are all read from there. Gradio sends numbers as JSON, where 32.0 comes back as
32, so values are coerced by the knob's kind and never trusted (gui.md 3.2, measured).
"""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.method import Knob, Method, as_number, find, knobs_of, shelf

STOPS = 1000  # a slider with more stops than this cannot be set with a mouse
READER: dict[str, Any] = {"queue": False, "concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
"""How every handler that only reads is wired: it waits in no queue, draws no overlay and is not published."""
WRITER: dict[str, Any] = {**READER, "queue": True, "concurrency_id": "asked"}
"""How a handler that writes a `gr.State` is wired: what it writes raises `.change` only when it went through the queue
(measured on 6.31: with queue=False nobody hears of it). All stand in one line, or Gradio would begin them in an order drawn by lot
(`get_events` in queueing.py): what is typed, and the button pressed after it. One with a limit of its own stands in a line of its own."""
DRAWN: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 1, "concurrency_id": "drawn"}
"""How every `gr.render` is wired: one after the other. Gradio walks through all components of a page when it has drawn some, and raises
where another thread adds more meanwhile (met on 6.31)."""

Names = Mapping[str, Sequence[str]]
"""What a text knob can name: the data sets, the models."""


def fields(knobs: Sequence[Knob], values: Mapping[str, Any], key: str, names: Names = MappingProxyType({})) -> dict[str, Component]:
    """One widget a knob, in order, drawn where this is called; knobs with `more` lie folded under "More".

    `values` are the knobs' present values (their defaults fill what is missing). A widget's elem_id and `key` are `key-name`.
    A form that is drawn again shows `values`, not what stood there before: the spec on the bench is the truth.
    """
    return laid_out(knobs, key, lambda knob: widget(knob, values.get(knob.name, knob.default), key, names))


def laid_out(knobs: Sequence[Knob], key: str, draw: Callable[[Knob], Component]) -> dict[str, Component]:
    """What `draw` makes of each knob, in order, those with `more` folded."""
    shown = [knob for knob in knobs if not knob.more]
    folded = [knob for knob in knobs if knob.more]
    drawn: dict[str, Component] = {}
    if shown:
        with gr.Column(elem_classes=["knobs"]):
            drawn |= {knob.name: draw(knob) for knob in shown}
    if folded:
        with gr.Accordion("More", open=False, elem_id=f"{key}-more", elem_classes=["more"]), gr.Column(elem_classes=["knobs"]):
            drawn |= {knob.name: draw(knob) for knob in folded}
    return drawn


def widget(knob: Knob, value: Any, key: str, names: Names = MappingProxyType({})) -> Component:
    """The widget that fits a knob: radio, dropdown, checkbox, slider, or a text box for what a slider cannot express. A knob that names
    something offers what `names` there are, and takes others that are typed."""
    name = f"{key}-{knob.name}"
    common: dict[str, Any] = {"interactive": True, "key": name, "preserved_by_key": [], "elem_id": name, "label": label_of(knob)}
    if knob.help:
        common["info"] = sentence_case(knob.help)
    if knob.kind == "bool":
        return gr.Checkbox(value=bool(value), **common)
    if knob.kind == "choice":
        kind = gr.Radio if len(knob.choices) <= 3 else gr.Dropdown
        return kind(choices=[(in_words(choice), choice) for choice in knob.choices], value=value, **common)
    if knob.names in names:
        return gr.Dropdown(choices=["", *names[knob.names]], value=value, allow_custom_value=True, **common)
    if knob.kind != "text" and slides(knob, value):
        return gr.Slider(minimum=knob.lo, maximum=knob.hi, step=grain(knob), value=value, **common)
    return gr.Textbox(value=written(knob, value), max_lines=1, **common)


def label_of(knob: Knob) -> str:
    """`Max length (tokens)`: the unit stands in the label, because screen readers miss Gradio's help line (gui.md 6, 39)."""
    said = not knob.unit or knob.unit in knob.label
    return sentence_case(knob.label) + ("" if said else f" ({knob.unit})")


def sentence_case(text: str) -> str:
    """The first letter large, the rest untouched; a symbol such as `ρ_a` or a lone letter stays as it is."""
    return text[:1].upper() + text[1:] if len(text) > 2 and text[0].isascii() else text


def in_words(choice: str) -> str:
    """`last_answer` → `last answer`: what a person reads; the value behind it stays."""
    return str(choice).replace("_", " ")


def slides(knob: Knob, value: Any) -> bool:
    """Whether a slider can express this knob: bounded, linear, few enough stops, and the value lies on one of them."""
    if knob.lo is None or knob.hi is None or knob.log or not knob.hi > knob.lo:
        return False
    step = grain(knob)
    place = (value - knob.lo) / step
    return (knob.hi - knob.lo) / step <= STOPS and math.isclose(place, round(place), abs_tol=1e-6)


def grain(knob: Knob) -> float:
    """The slider's step: the knob's own, one for whole numbers, else 1, 2 or 5 times a power of ten, about 200 to the range."""
    if knob.step:
        return knob.step
    assert knob.lo is not None and knob.hi is not None
    if knob.kind == "int":
        return 1
    rough = (knob.hi - knob.lo) / 200
    power = 10.0 ** math.floor(math.log10(rough))
    return next(round(power * digit, 12) for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))


def written(knob: Knob, value: Any) -> str:
    """A number as people write it, and such that it reads back as the very same number."""
    if knob.kind == "float":
        short = f"{value:g}"
        return short if float(short) == value else repr(float(value))
    return str(value)


def collect(knobs: Sequence[Knob], values: Mapping[str, Any]) -> dict[str, Any]:
    """The widgets' values as the knobs' types; a knob that is not in `values` keeps its default.

    Raises `SpecError` with one sentence for each mistake, all at once.
    """
    collected: dict[str, Any] = {}
    mistakes: list[str] = []
    for knob in knobs:
        try:
            collected[knob.name] = coerce(knob, values[knob.name]) if knob.name in values else knob.default
        except WorkbenchError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SpecError(mistakes)
    return collected


def coerce(knob: Knob, value: Any) -> Any:
    """One value as the knob's type and within its range, or a `WorkbenchError` that names the knob and what it may be."""
    if knob.kind == "bool":
        return bool(value)
    if knob.kind == "text":
        return str(value or "")
    if knob.kind == "choice":
        if value not in knob.choices:
            raise WorkbenchError(f"{knob.label} is {value!r}; it must be {knob.range}.")
        return value
    number = _number(knob, value)
    if (knob.lo is not None and number < knob.lo) or (knob.hi is not None and number > knob.hi):
        raise WorkbenchError(f"{knob.label} is {number:g}; it must be {knob.range}.")
    return int(number) if knob.kind == "int" else number


def _number(knob: Knob, value: Any) -> float:
    if value is None or not str(value).strip():
        raise WorkbenchError(f"{knob.label} is empty; it must be {knob.range}.")
    try:
        number = as_number(str(value).strip())
    except WorkbenchError as error:
        raise WorkbenchError(f"{knob.label}: {error}.") from error
    if knob.kind == "int" and number != int(number):
        raise WorkbenchError(f"{knob.label} is {number:g}; it must be a whole number, {knob.range}.")
    return number


def method_choices(shelf_name: str) -> list[tuple[str, str]]:
    """(title, name) of every method on a shelf, for a dropdown."""
    return [(method.title(), name) for name, method in shelf(shelf_name).items()]


def method_block(shelf_name: str, chosen: Mapping[str, Any], key: str, names: Names = MappingProxyType({})) -> dict[str, Component]:
    """A chosen method's title, first sentence and form, drawn where this is called (inside `gr.render`).

    `chosen` is a method as it stands in a spec, `{"method": name, knob: value, …}`. Returns its widgets by knob.
    """
    method = find(shelf_name, chosen["method"])
    method_title(method, key)
    return fields(knobs_of(method), chosen, f"{key}-{method.name}", names)


def method_title(method: type[Method], key: str) -> None:
    """What stands above a method's form."""
    gr.HTML(
        method_head(method),
        elem_id=f"{key}-head",
        key=f"{key}-{method.name}:about",  # no knob can be called so: two widgets of one key are one widget
        preserved_by_key=[],
        js_on_load=None,
        apply_default_css=False,
    )


def method_head(method: type[Method]) -> str:
    """Title, paper and first sentence of a method as HTML; everything is escaped."""
    paper = f'<a class="paper" href="{html.escape(method.link())}" target="_blank" rel="noreferrer">{html.escape(method.paper)}</a>'
    return (
        f'<div class="method-head"><h3>{html.escape(method.title())}{paper if method.link() else ""}</h3>'
        f"<p>{html.escape(method.summary())}</p></div>"
    )


def method_from(shelf_name: str, name: str, widgets: Mapping[str, Component], given: Mapping[Component, Any]) -> dict[str, Any]:
    """The chosen method as it stands in a spec, from what a handler with set inputs was given; raises `SpecError`."""
    knobs = knobs_of(find(shelf_name, name))
    return {"method": name, **collect(knobs, {knob: given[widget] for knob, widget in widgets.items()})}


def touched(component: Component) -> Any:
    """The event of a person changing this widget: `input`, but `change` where Gradio's `input` is deaf (measured on 6.31).

    A text box does not raise `input` for what is pasted, cut or filled in; a list of many not when it is cleared.
    """
    deaf = isinstance(component, gr.Textbox) or (isinstance(component, gr.Dropdown) and component.multiselect)
    return component.change if deaf else component.input


def spell_out(box: gr.Dropdown, choices: Callable[[], list[tuple[str, str]]]) -> None:
    """Let a list of many (label, value) take what is typed as it reads there, or begins there; Gradio takes it as a value of its own."""

    def whole(values: list[str] | None) -> Any:
        found = list(dict.fromkeys(meant(value, choices()) for value in values or []))
        return gr.skip() if found == (values or []) else gr.Dropdown(value=found)

    box.change(whole, box, box, **READER)


def meant(typed: str, choices: list[tuple[str, str]]) -> str:
    """The value of the one label that is typed, or that alone begins so; else what is typed."""
    wanted = typed.strip().casefold()
    begun = {value for label, value in choices if wanted and label.casefold().startswith(wanted)}
    said = {value for label, value in choices if label.casefold() == wanted}
    (found,) = next((own for own in (said, begun) if len(own) == 1), {typed})
    return typed if typed in (value for _, value in choices) else found


def on_input(widgets: Mapping[str, Component], then: Callable[..., Any], outputs: Any, *also: Component) -> None:
    """Call `then(values: {component: value})` (queued, so that it may write states) whenever a person moves one of the widgets.

    `also` are further inputs. While one call is under way only the last of the following is kept, which is all the
    debouncing a slider needs: the page shows the newest value and never falls behind.
    """
    if not widgets:
        return
    triggers = [touched(component) for component in widgets.values()]
    inputs = {*widgets.values(), *also}
    gr.on(triggers, then, inputs=inputs, outputs=outputs, trigger_mode="always_last", **WRITER)
