"""What narrows the rows: a range as it is dragged or typed, the picture, and only the buttons that have something to do."""

import math
import re

import pytest

from workbench.jobs.numbers import Spread
from workbench.jobs.paging import BULK, Page
from workbench.ui import narrowed
from workbench.ui.narrowed import WHOLE

SPREAD = Spread("<b>words</b> of it", [0.0, 0.5, 1.0], [3, 1], 2)


def picks(markup: str) -> list[str]:
    return re.findall(r'data-pick="(\w+)"', markup)


@pytest.mark.parametrize(
    ("typed", "least", "most"),
    [
        (("1.5", "3"), 1.5, 3.0),
        (("3", "1.5"), 1.5, 3.0),
        (("", "3"), None, 3.0),
        (("2", ""), 2.0, None),
        (("x", "nan"), None, None),
        (("-inf", "1e3"), None, 1000.0),
    ],
)
def test_a_range_is_read_as_it_is_meant(typed: tuple[str, str], least: float | None, most: float | None) -> None:
    assert narrowed.read_ends(*typed) == {"least": least, "most": most}


def test_an_end_that_is_not_said_is_endless() -> None:
    assert narrowed.ends(WHOLE) == (-math.inf, math.inf)
    assert narrowed.ends({**WHOLE, "least": 0, "most": 2}) == (0, 2)


def test_a_statistic_is_of_a_part_and_a_step_is_not() -> None:
    assert [narrowed.number_of({**WHOLE, "by": by, "part": "row"}) for by in ("", "words", "step:2")] == ["", "words:row", "step:2"]


def test_rows_as_they_are_have_nothing_above_them() -> None:
    assert narrowed.drawn(Page(9, 0, []), WHOLE, "kept", "") == ""


def test_a_number_has_a_picture_to_drag_across_and_two_fields() -> None:
    shown = narrowed.drawn(Page(4, 0, [], SPREAD), {**WHOLE, "by": "words", "least": 0.25}, "kept", "")
    assert 'data-first="0.0" data-last="1.0"' in shown and "<b>words" not in shown and "2 rows without one" in shown
    assert re.findall(r'data-end value="([^"]*)" placeholder="([^"]*)"', shown) == [("0.25", "0"), ("", "1")]
    assert picks(shown) == ["whole", "step", "drop"]
    assert "No row that is listed" in narrowed.drawn(Page(0, 0, []), {**WHOLE, "by": "words"}, "kept", "")


def test_a_number_of_a_step_makes_no_second_step() -> None:
    assert picks(narrowed.drawn(Page(4, 0, [], SPREAD), {**WHOLE, "by": "step:1", "most": 3}, "kept", "")) == ["whole", "drop"]


@pytest.mark.parametrize(
    ("show", "wanted"), [("kept", []), ("all", []), ("dropped", ["back"]), ("copies", ["drop"]), ("nothing to learn", ["drop"])]
)
def test_many_rows_are_dropped_where_something_narrows_them(show: str, wanted: list[str]) -> None:
    assert picks(narrowed.drawn(Page(4, 0, []), WHOLE, show, "")) == wanted
    assert picks(narrowed.drawn(Page(0, 0, []), WHOLE, show, "lake")) == []


def test_rows_that_were_picked_elsewhere_say_so_and_can_be_let_go() -> None:
    shown = narrowed.drawn(Page(2, 0, []), {**WHOLE, "rows": (1, 7), "says": "on the <map>"}, "all", "")
    assert picks(shown) == ["every", "drop", "back"] and "2 rows on the &lt;map&gt;" in shown


def test_more_rows_than_a_recipe_should_name_are_not_offered() -> None:
    shown = narrowed.drawn(Page(BULK + 1, 0, []), WHOLE, "kept", "lake")
    assert picks(shown) == [] and "are not dropped by hand" in shown
    assert picks(narrowed.drawn(Page(BULK, 0, []), WHOLE, "kept", "lake")) == ["drop"]


def test_one_row_is_spoken_of_as_one() -> None:
    one, two = (narrowed.drawn(Page(total, 0, []), WHOLE, "kept", "lake") for total in (1, 2))
    assert "Drop this one by hand" in one and "Drop these 2 by hand" in two
