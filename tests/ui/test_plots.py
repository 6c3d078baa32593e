"""Figures say what they show, carry units, are read on light and dark, and speak when they are empty."""

import json
import math

import pytest

from workbench.core.events import Table
from workbench.core.picture import Picture
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
    assert (drawn.layout.xaxis.title.text, drawn.layout.yaxis.title.text) == ("loss on what was known", "validation loss")
    assert plots.paired(([1, 2, 3, 4, 5], [0.0, 1.0, math.inf, 2.0, 3.0]), ([1, 2, 3, 4, 5], [1.0, 0.0, 1.0, math.inf, 4.0])) == [
        (3.0, 4.0)
    ]


HEAT = Picture("found", "heat", "Found", x="part", y="layer", value="size")
HEADS = ["model", "layer", "part", "size"]


def test_a_heat_has_a_panel_for_each_model_and_layers_upwards_with_what_has_none_below() -> None:
    rows = [["b", 10, "q", 1.0], ["b", 2, "q", 2.0], ["b", None, "norm", 3.0], ["<i>", 2, "k", None], ["<i>", 2, "q", 4.0]]
    drawn = plots.pictured(Table("found", HEADS, rows), HEAT)
    first, second = drawn.data
    assert list(first.y) == ["outside", "2", "10"] and list(first.x) == ["q", "norm"] == list(second.x)
    assert [list(line) for line in first.z] == [[None, 3.0], [2.0, None], [1.0, None]]
    assert [list(line) for line in second.z] == [[None, None], [4.0, None], [None, None]]
    assert {note.text for note in drawn.layout.annotations} == {"b", "&lt;i&gt;"}
    assert (drawn.layout.coloraxis.cmin, drawn.layout.coloraxis.cmax) == (0, 4.0)


def test_a_heat_of_both_signs_has_its_middle_at_nothing() -> None:
    drawn = plots.pictured(Table("found", HEADS, [["b", 0, "q", -1.0], ["b", 0, "k", 0.5]]), HEAT)
    assert (drawn.layout.coloraxis.cmin, drawn.layout.coloraxis.cmax) == (-1.0, 1.0) and len(drawn.layout.coloraxis.colorscale) == 3


@pytest.mark.parametrize("kind", ["bars", "lines", "points"])
def test_marks_have_a_colour_for_each_model_a_line_where_it_is_asked_for_and_escaped_words(kind: str) -> None:
    rows = [["b", "<x>", 1.0, "one"], ["t", "<x>", 2.0, "<two>"], ["t", "y", None, "none"]]
    picture = Picture("found", kind, "Found", x="place", y="size", value="words" if kind == "points" else "", mark=0.5)
    drawn = plots.pictured(Table("found", ["model", "place", "size", "words"], rows), picture)
    assert [trace.name for trace in drawn.data] == ["b", "t"] and list(drawn.data[1].x) == ["&lt;x&gt;"]
    assert drawn.layout.shapes[0].y0 == 0.5 and drawn.layout.xaxis.title.text == "place" and drawn.layout.showlegend
    assert kind != "points" or list(drawn.data[1].text) == ["&lt;two&gt;"]


def test_a_table_without_numbers_is_drawn_as_a_sentence() -> None:
    drawn = plots.pictured(Table("found", HEADS, [["b", 0, "q", None]]), HEAT)
    assert not drawn.data and "nothing to draw" in drawn.layout.annotations[0].text.replace("<br>", " ").lower()


def test_a_heat_of_nothing_but_zeros_and_one_that_begins_at_zero_have_colours_upwards() -> None:
    for values, most in (([0.0, 0.0], 1), ([0.0, 2.0], 2.0)):
        drawn = plots.pictured(Table("found", HEADS, [["b", 0, "<q>", values[0]], ["b", 1, "<q>", values[1]]]), HEAT)
        assert (drawn.layout.coloraxis.cmin, drawn.layout.coloraxis.cmax) == (0, most)
        assert list(drawn.data[0].x) == ["&lt;q&gt;"] and [list(line) for line in drawn.data[0].z] == [[values[0]], [values[1]]]


@pytest.mark.parametrize("kind", ["bars", "lines", "points"])
def test_marks_of_one_kind_stand_at_their_numbers_zero_too(kind: str) -> None:
    rows = [[1, 0.0], [2, 3.0], [None, 4.0]]
    drawn = plots.pictured(Table("found", ["place", "size"], rows), Picture("found", kind, "Found", x="place", y="size", each="", mark=0.0))
    (marks,) = drawn.data
    assert list(marks.x) == [1, 2] and list(marks.y) == [0.0, 3.0], "what has no place is left out"
    assert drawn.layout.shapes[0].y0 == 0 and drawn.layout.yaxis.type == "linear" and not drawn.layout.showlegend
    log = Picture("found", kind, "Found", x="place", y="size", each="", log=True)
    assert plots.pictured(Table("found", ["place", "size"], rows), log).layout.yaxis.type == "log"


def test_lines_of_one_colour_differ_in_their_dashes():
    lines = {name: ([1, 2], [2.0, 1.0]) for name in ("0001", "0008", "0015", "0002")}
    drawn = plots.curves(lines, "Loss", "step", "loss", colours={name: plots.run_colour(name) for name in lines})
    assert len({(line.line.color, line.line.dash) for line in drawn.data}) == 4 and drawn.data[0].line.dash == "solid"
    assert len({line.line.color for line in drawn.data}) == 2, "a run keeps its colour"
