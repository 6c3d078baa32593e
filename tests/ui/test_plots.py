"""Figures say what they show, carry units, are read on light and dark, and speak when they are empty."""

import json
import math

import pytest

from workbench.ui import plots

BY_MODULE = [("q_proj", 0, 10, 100), ("k_proj", 0, 0, 100), ("q_proj", 1, 20, 100), ("embed", -1, 0, 50)]
FULL = {
    "curves": plots.curves({"run 1": ([1, 2, 3], [3.0, 2.0, 1.0])}, "Loss", "step", "nats a token"),
    "length_histogram": plots.length_histogram([3, 5, 60, 300], 256),
    "memory_bar": plots.memory_bar([("weights", 3e9), ("activations", 1e9)], 24 * 2**30),
    "heat_map": plots.heat_map(BY_MODULE),
    "forecast": plots.forecast({"pocket": (([100, 200], [2.0, 1.5]), ([100, 800], [2.0, 1.0]))}, "Loss by rows", 800),
    "terrain": plots.terrain([(1, 0.0, 1.0, True, "user: <b>x</b>"), (2, 1.0, 0.0, False, "y")]),
}
EMPTY = {
    "curves": plots.curves({}, "Loss", "step", "nats"),
    "length_histogram": plots.length_histogram([], 256),
    "memory_bar": plots.memory_bar([], None),
    "heat_map": plots.heat_map([]),
    "forecast": plots.forecast({}, "Loss by rows", 800),
    "terrain": plots.terrain([]),
}


@pytest.mark.parametrize("name", FULL)
def test_a_figure_has_a_title_named_axes_and_no_background_and_survives_json(name):
    drawn = FULL[name]
    layout = json.loads(drawn.to_json())["layout"]
    assert layout["title"]["text"] and layout["xaxis"]["title"]["text"]
    assert layout["template"]["layout"]["paper_bgcolor"] == layout["template"]["layout"]["plot_bgcolor"] == "rgba(0,0,0,0)"
    assert drawn.data


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_figure_says_why_in_a_sentence(name):
    drawn = EMPTY[name]
    assert not drawn.data
    assert drawn.layout.annotations[0].text.endswith(".")


def test_the_histogram_counts_every_row_once_and_says_how_many_are_cut():
    lengths = [n % 97 + 1 for n in range(1000)]
    drawn = plots.length_histogram(lengths, 50)
    assert sum(sum(bars.y) for bars in drawn.data) == 1000
    late = sum(n > 50 for n in lengths)
    assert sum(next(bars for bars in drawn.data if bars.name == "cut off").y) == late
    assert f"{late} of 1,000 beyond the cut at 50" in drawn.layout.title.text
    assert drawn.layout.shapes[0].x0 == 50.5


def test_the_map_tells_what_stays_and_shows_foreign_text_as_text():
    go, stay = FULL["terrain"].data
    assert (go.name, stay.name) == ("1 rows go", "1 rows stay") and stay.text == ("row 1<br>user: &lt;b&gt;x&lt;/b&gt;",)


def test_the_histogram_sends_bars_and_never_a_row_each():
    assert len(plots.length_histogram(list(range(1, 100_001)), 256).to_json()) < 30_000


def test_memory_beyond_the_machine_draws_the_line_in_red():
    drawn = plots.memory_bar([("weights", 30 * 2**30)], 24 * 2**30)
    assert drawn.layout.shapes[0].line.color == plots.VERMILION
    assert FULL["memory_bar"].layout.shapes[0].line.color == plots.GREY


def test_unknown_memory_is_called_unknown():
    drawn = plots.memory_bar([("weights", 2**30)], None)
    assert "unknown" in drawn.layout.title.text and not drawn.layout.shapes


def test_the_heat_map_holds_shares_and_leaves_holes_where_a_module_is_missing():
    drawn = FULL["heat_map"].data[0]
    assert list(drawn.x) == ["q_proj", "k_proj", "embed"] and list(drawn.y) == ["outside", "0", "1"]
    assert [list(row) for row in drawn.z] == [[None, None, 0.0], [0.1, 0.0, None], [0.2, None, None]]


def test_values_that_are_not_finite_leave_a_gap():
    drawn = plots.curves({"a": ([1, 2, 3], [1.0, float("nan"), float("inf")])}, "t", "x", "y")
    assert list(drawn.data[0].y) == [1.0, None, None]


def test_a_run_keeps_its_colour():
    assert plots.run_colour("0001") == plots.run_colour("0001") != plots.run_colour("0002")


@pytest.mark.parametrize(("number", "said"), [(812, "812"), (41_234, "41.2 k"), (1_240_000, "1.24 M"), (3.14159, "3.14"), (1000, "1,000")])
def test_numbers_have_three_significant_digits(number, said):
    assert plots.short(number) == said


def test_the_plane_goes_from_evaluation_to_evaluation_where_both_losses_are_known() -> None:
    known, new = ([0, 10, 20, 30], [0.01, 0.1, math.nan, 0.5]), ([10, 20, 30, 40], [2.0, 1.0, 0.1, 0.05])
    assert plots.paired(known, new) == [(0.1, 2.0), (0.5, 0.1)]
    drawn = plots.plane({"one": (known, new), "nothing": (known, ([], []))}, {"one": "#123456", "nothing": "#000000"})
    (way,) = drawn.data
    assert list(way.x) == [0.1, 0.5] and list(way.y) == [2.0, 0.1] and way.line.color == "#123456"
    assert way.marker.size[-1] > way.marker.size[0] and drawn.layout.xaxis.type == drawn.layout.yaxis.type == "log"
