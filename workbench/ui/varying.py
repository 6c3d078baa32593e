"""A number that differs from tensor to tensor, as a person gives it in the Merge tab: a curve over depth, and others by name.

Beside the number's own field stands "vary". Opened, it takes the field's place: a curve whose points are dragged, moved with the arrow
keys or typed, and a row for tensors whose name matches. What it says is in `core/varied.py`'s form, so the recipe is mergekit's.
Pure functions but for `beside`. Ids: KEY-vary, and of each number KEY-ROW-POINT; KEY is that of the number's own field.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.core.errors import WorkbenchError
from workbench.core.method import Knob, as_number
from workbench.core.varied import Part, Varied, apart, spaced, together
from workbench.ui import cards
from workbench.ui.cards import escaped
from workbench.ui.forms import WRITER, coerce
from workbench.ui.sketch import BOTTOM, HEIGHT, LEFT, RIGHT, SERIES, TOP, WIDTH, Frame, Mark

SHOWN = (-1.0, 2.0)  # of a wider range so much is drawn, and what a number needs beside it
MOST = 12  # points of a row that can be asked for; a recipe may have more
FILTERS = ("mlp", "self_attn", "norm", "embed_tokens", "lm_head")  # offered; any part of a name is taken
OUTSIDE = "Embeddings take a row’s first number; the final norm and the head take its last."


def beside(
    knob: Knob, key: str, field: Component, value: Varied, write: Callable[[Any, Varied], Any], draft: gr.State, error: gr.HTML
) -> None:
    """Draw what stands beside the number's own `field`, which is hidden while it varies; `write(draft, value)` is the draft with it."""
    shown = gr.HTML(
        drawn(knob, key, value),
        html_template="${value}",
        js_on_load='Workbench.varying(element, trigger); ["vary"]',
        apply_default_css=False,
        elem_id=f"{key}-vary",
        key=f"{key}-vary",
        preserved_by_key=[],
    )

    def vary(event: gr.EventData, held: Any, own: Any) -> tuple[Any, ...]:
        try:
            given = after(str(event.do), int(event.row or 0), event.rows, coerce(knob, own))
        except WorkbenchError as mistake:
            return cards.error_card(mistake), gr.skip(), gr.skip(), gr.skip()
        return "", drawn(knob, key, given), type(field)(visible=not isinstance(given, list)), write(held, given)

    # not "always_last": that comes again without what the event tells (read in gradio 6.31); each tells all rows, so the last one counts
    one_by_one = {**WRITER, "concurrency_limit": 1, "concurrency_id": "varied"}
    shown.vary(vary, [draft, field], [error, shown, field, draft], trigger_mode="multiple", **one_by_one)


def varies(knob: Knob, ends: tuple[str, str] | None) -> bool:
    """Whether a form offers to vary this knob: a number, but not one that says itself what the last block gets."""
    return knob.kind == "float" and knob.name != (ends or ("", ""))[1]


def after(do: str, row: int, told: Sequence[Mapping[str, Any]], own: float) -> Varied:
    """The value after what a person did: `vary`, `one`, `typed`, `more` or `fewer` points, `add` or `drop` a row.

    `told` are the rows as they stand in the page, `own` is what stands in the number's own field.

    Raises:
        WorkbenchError: what was typed is no number.
    """
    if do == "one":
        return own
    rows: list[Part] = [(str(one["filter"]).strip(), [as_number(str(number)) for number in one["numbers"]]) for one in told]
    rows = rows or [("", [own, own])]
    name, numbers = rows[row]
    match do:
        case "more":
            rows[row] = name, spaced(numbers, min(MOST, len(numbers) + 1))
        case "fewer":
            rows[row] = name, spaced(numbers, max(1, len(numbers) - 1))
        case "drop":
            del rows[row]
        case "add":
            taken = {name for name, _ in rows}
            free = next((name for name in FILTERS if name not in taken), FILTERS[0])
            rows.insert(len(rows) - 1, (free, list(rows[-1][1])))
    return together(rows)


def drawn(knob: Knob, key: str, value: Varied) -> str:
    """The button that opens it, or the curve and its rows."""
    label = escaped(knob.label)
    if not isinstance(value, list):
        words = f"{label}: other values over depth, or for some tensors"
        return f'<button type="button" class="quiet-button vary" data-do="vary" title="{words}" aria-label="{words}">vary ▸</button>'
    rows = apart(value)
    one = '<button type="button" class="quiet-button" data-do="one">one number</button>'
    head = f'<div class="varied-head"><b>{label}</b><span class="quiet">from tensor to tensor</span>{one}</div>'
    if rows is None:
        return f'<div class="varied">{head}<pre>{escaped(json.dumps(value))}</pre></div>'
    more = '<button type="button" class="quiet-button" data-do="add">+ other values by name</button>'
    listed = "".join(_row(knob, key, place, row, len(rows)) for place, row in enumerate(rows))
    return f'<div class="varied">{head}{curve(knob, key, rows)}{listed}{more}<p class="quiet">{OUTSIDE}</p></div>'


def curve(knob: Knob, key: str, rows: Sequence[Part]) -> str:
    """The rows over depth, with a handle on each point."""
    frame = Frame((0, 1), span(knob, [number for _, numbers in rows for number in numbers]), knob.log)
    lines, marks = [], []
    for place, (name, numbers) in enumerate(rows):
        points = list(zip(_across(len(numbers)), numbers, strict=True))
        ends = [(0.0, numbers[0]), (1.0, numbers[0])] if len(numbers) == 1 else points
        lines.append(_line(frame, place, ends))
        marks += [
            frame.handle(Mark(x, y, f"{key}-{place}-{number}", f"{_named(name, len(rows))}: {_where(number, len(numbers))}"))
            for number, (x, y) in enumerate(points)
        ]
    grid = "".join(frame.rule(value) for value in frame.ticks())
    feet = _foot(LEFT, "start", "first layer") + _foot(WIDTH - RIGHT, "end", "last layer")
    scale = f'data-low="{frame.up[0]:g}" data-high="{frame.up[1]:g}" data-top="{TOP}" data-bottom="{HEIGHT - BOTTOM}"'
    scale += ' data-log="1"' if knob.log else ""
    words = f"{knob.label} from the first layer to the last"
    return (
        f'<svg class="sketch" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{escaped(words)}" {scale}>'
        f"{grid}{feet}{''.join(lines)}{''.join(marks)}</svg>"
    )


def span(knob: Knob, numbers: Sequence[float]) -> tuple[float, float]:
    """The ends of the upward axis: the whole range where it is small, else what is usual and what these numbers need."""
    lo, hi = -math.inf if knob.lo is None else knob.lo, math.inf if knob.hi is None else knob.hi
    if knob.log:
        some = [number for number in numbers if number > 0] or [1.0]
        return 10.0 ** (math.floor(math.log10(min(some))) - 1), min(hi, 10.0 ** (math.ceil(math.log10(max(some))) + 1))
    low, high = max(lo, SHOWN[0]), min(hi, SHOWN[1])
    room = 0.25 * (max(*numbers, high) - min(*numbers, low))
    low = max(lo, min(numbers) - room) if min(numbers) <= low else low
    return low, min(hi, max(numbers) + room) if max(numbers) >= high else high


def _foot(x: int, anchor: str, words: str) -> str:
    return f'<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="{anchor}">{words}</text>'


def _line(frame: Frame, place: int, points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points if y > 0 or not frame.log)
    return f'<polyline points="{path}" style="stroke:var(--series-{1 + place % SERIES})"/>'


def _across(count: int) -> list[float]:
    return [place / (count - 1) for place in range(count)] if count > 1 else [0.5]


def _where(place: int, count: int) -> str:
    """Which layer a point stands for, in words."""
    if count == 1:
        return "all layers"
    return "first layer" if not place else "last layer" if place == count - 1 else f"{place / (count - 1):.0%} of the depth"


def _named(name: str, rows: int) -> str:
    return name or ("all tensors" if rows == 1 else "all other tensors")


def _row(knob: Knob, key: str, place: int, row: Part, rows: int) -> str:
    """A row of the form: for which tensors, its numbers, and buttons for more or fewer of them."""
    name, numbers = row
    dot = f'<i style="background:var(--series-{1 + place % SERIES})"></i>'
    listed = f"{key}-filters-{place}"
    choices = "".join(f'<option value="{one}"></option>' for one in FILTERS)
    field = (
        f'<input type="text" value="{escaped(name)}" list="{listed}" aria-label="part of the tensor’s name"><datalist id="{listed}">'
        f"{choices}</datalist>"
    )
    who = f'<span class="varied-name">{dot}{field if name else escaped(_named(name, rows))}</span>'
    fields = "".join(_field(knob, f"{key}-{place}-{at}", number, _where(at, len(numbers))) for at, number in enumerate(numbers))
    fewer = _button("fewer", place, "−", "one point less", len(numbers) == 1)
    more = _button("more", place, "+", "one point more", len(numbers) >= MOST)
    drop = _button("drop", place, "×", f"no values of its own for {name}", False) if name else ""
    return f'<div class="varied-row" data-row="{place}">{who}{drop}<span class="varied-points">{fields}{fewer}{more}</span></div>'


def _field(knob: Knob, name: str, number: float, where: str) -> str:
    ends = f'min="{-10 if knob.lo is None else knob.lo:g}" max="{10 if knob.hi is None else knob.hi:g}" step="{_grain(knob)}"'
    words = f'aria-label="{where}" title="{where}"'
    return f'<span id="{name}"><input type="number" value="{number:g}" {ends} {words}></span>'


def _grain(knob: Knob) -> str:
    return "any" if knob.log else f"{knob.step or 0.05:g}"


def _button(do: str, row: int, sign: str, words: str, off: bool) -> str:
    state = " disabled" if off else ""
    where = f'data-do="{do}" data-row="{row}" title="{escaped(words)}" aria-label="{escaped(words)}"'
    return f'<button type="button" class="quiet-button" {where}{state}>{sign}</button>'
