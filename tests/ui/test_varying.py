"""A number that varies, as the Merge tab shows it: what each button makes of it, where its handles lie, and that words stay words."""

import re
from html import unescape
from xml.etree import ElementTree

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.method import Knob
from workbench.core.varied import Varied, apart
from workbench.ui import varying
from workbench.ui.sketch import LEFT, RIGHT, WIDTH

DENSITY = Knob("density", "Density", "float", 0.2, "", 0, 1, step=0.05)
SCALE = Knob("scale", "Scale", "float", 1.0, "", -5, 5, step=0.05)
SHARE = Knob("share", "Share", "float", 0.01, "", 0, 1, log=True)
GIVEN: Varied = [{"filter": "mlp", "value": [0.2, 0.8]}, {"value": 0.5}]


def told(value: Varied) -> list[dict]:
    """The rows as the page tells them."""
    return [{"filter": name, "numbers": [f"{number:g}" for number in own]} for name, own in apart(value) or []]


def after(do: str, row: int = 0, value: Varied = GIVEN) -> Varied:
    return varying.after(do, row, told(value), 0.7)


def test_it_begins_as_the_number_it_was_and_ends_as_one() -> None:
    assert varying.after("vary", 0, [], 0.7) == [0.7, 0.7]
    assert after("one") == 0.7


@pytest.mark.parametrize(("do", "row", "value"), [
    ("typed", 0, GIVEN),
    ("more", 0, [{"filter": "mlp", "value": [0.2, 0.5, 0.8]}, {"value": 0.5}]),
    ("more", 1, [{"filter": "mlp", "value": [0.2, 0.8]}, {"value": [0.5, 0.5]}]),
    ("fewer", 0, [{"filter": "mlp", "value": 0.2}, {"value": 0.5}]),
    ("fewer", 1, GIVEN),
    ("drop", 0, [0.5]),
    ("add", 0, [{"filter": "mlp", "value": [0.2, 0.8]}, {"filter": "self_attn", "value": 0.5}, {"value": 0.5}]),
])  # fmt: skip
def test_each_button_does_what_it_says(do: str, row: int, value: Varied) -> None:
    assert after(do, row) == value


def test_points_are_not_asked_for_without_end() -> None:
    value: Varied = [0.5]
    for _ in range(20):
        value = after("more", value=value)
    assert value == [0.5] * varying.MOST and "disabled" in varying.drawn(DENSITY, "k", value)


def test_what_is_no_number_is_said() -> None:
    with pytest.raises(WorkbenchError, match="not a number"):
        varying.after("typed", 0, [{"filter": "", "numbers": ["much"]}], 0.7)


def test_only_what_is_opened_is_drawn() -> None:
    closed, opened = varying.drawn(DENSITY, "merge-ties-density", 0.2), varying.drawn(DENSITY, "merge-ties-density", GIVEN)
    assert "<svg" not in closed and "<input" not in closed and 'data-do="vary"' in closed
    assert opened.count("<svg") == 1 and opened.count('type="number"') == 3 and opened.count('type="text"') == 1


def test_every_handle_stands_for_a_field_with_its_number() -> None:
    shown = varying.drawn(DENSITY, "merge-ties-density", GIVEN)
    handles = re.findall(r'data-handle="(.*?)".*?aria-valuenow="(.*?)"', shown)
    fields = re.findall(r'<span id="(.*?)"><input type="number" value="(.*?)" min="0" max="1" step="0.05"', shown)
    assert handles == fields == [("merge-ties-density-0-0", "0.2"), ("merge-ties-density-0-1", "0.8"), ("merge-ties-density-1-0", "0.5")]


@pytest.mark.parametrize(("knob", "numbers"), [(DENSITY, [0.0, 0.3, 1.0]), (SCALE, [-2.0, 4.0, 0.5]), (SHARE, [1e-4, 0.01, 0.5])])
def test_the_scale_turns_a_handle_s_place_back_into_its_number(knob: Knob, numbers: list[float]) -> None:
    svg = ElementTree.fromstring(varying.curve(knob, "k", [("", numbers)]))
    low, high, top, bottom = (float(svg.attrib[f"data-{name}"]) for name in ("low", "high", "top", "bottom"))
    handles = [circle for circle in svg.iter("circle") if circle.attrib.get("class") == "handle"]
    assert [float(handle.attrib["cx"]) for handle in handles] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    for handle, number in zip(handles, numbers, strict=True):
        share = (bottom - float(handle.attrib["cy"])) / (bottom - top)
        found = low * (high / low) ** share if knob.log else low + share * (high - low)
        assert found == pytest.approx(number, rel=0.02, abs=0.01) and 0 <= share <= 1


def test_an_axis_has_room_above_unless_the_range_ends_there() -> None:
    assert varying.span(DENSITY, [0.2]) == (0, 1)
    assert varying.span(SCALE, [1.0]) == (-1.0, 2.0)
    low, high = varying.span(SCALE, [2.0, 3.0])
    assert low == -1.0 and 3.0 < high <= 5.0 and varying.span(SCALE, [5.0])[1] == 5.0 and varying.span(SCALE, [-5.0])[0] == -5.0
    assert varying.span(SHARE, [0.01]) == (pytest.approx(1e-3), pytest.approx(0.1)) and varying.span(SHARE, [0.5])[1] == 1.0


def test_what_was_typed_is_no_markup_and_what_rows_cannot_say_stays() -> None:
    evil = '"><script>alert(1)</script>${x}'
    shown = varying.drawn(DENSITY, "k", [{"filter": evil, "value": 0.2}, {"value": 0.5}])
    assert "<script" not in shown and "${" not in shown and evil in unescape(shown)
    nested = varying.drawn(DENSITY, "k", [{"filter": "mlp", "value": [{"filter": "<b>", "value": 1}, {"value": 2}]}, {"value": 3}])
    assert "<input" not in nested and "<b>" not in nested.replace("<b>Density</b>", "") and 'data-do="one"' in nested


def test_what_says_itself_what_the_last_block_gets_is_not_offered() -> None:
    assert varying.varies(SCALE, ("scale", "deeper")) and varying.varies(SCALE, None)
    assert not varying.varies(Knob("deeper", "", "float", 0.0, ""), ("scale", "deeper"))
    assert not varying.varies(Knob("needed", "", "int", 1, ""), None)
