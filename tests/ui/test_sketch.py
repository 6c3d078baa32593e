"""Small pictures: numbers lie where they should on the paper, words are escaped, and handles say what they move."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from workbench.ui import sketch
from workbench.ui.sketch import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Mark, even

EVIL = "<script>alert(1)</script>${x}"


def parsed(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn[: drawn.index("</svg>") + 6])


def test_the_ends_of_a_line_lie_at_the_ends_of_the_paper() -> None:
    svg = parsed(sketch.lines({"a": [(0, 0.0), (1, 5.0), (2, 10.0)]}, "x", "y"))
    points = [tuple(map(float, point.split(","))) for point in svg.find("polyline").attrib["points"].split()]
    assert [x for x, _ in points] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    heights = [y for _, y in points]
    assert heights[0] == HEIGHT - BOTTOM and TOP <= heights[2] < heights[1] < heights[0]
    assert heights[1] == pytest.approx((heights[0] + heights[2]) / 2, abs=0.1)


def test_on_a_logarithmic_axis_a_factor_is_a_distance() -> None:
    svg = parsed(sketch.lines({"a": [(0, 0.01), (1, 0.1), (2, 1.0)], "b": [(0, 0.0), (1, 0.1)]}, "x", "y", log=True))
    first, second = svg.findall("polyline")
    ys = [float(point.split(",")[1]) for point in first.attrib["points"].split()]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert len(second.attrib["points"].split()) == 1, "zero has no place on it"


def test_what_is_no_number_leaves_no_point_and_nothing_draws_nothing() -> None:
    svg = parsed(sketch.lines({"a": [(0, 1.0), (1, float("nan")), (2, 2.0)]}, "x", "y"))
    assert len(svg.find("polyline").attrib["points"].split()) == 2
    assert sketch.lines({}, "x", "y") == "" and sketch.lines({"a": [(0, float("inf"))]}, "x", "y") == ""


def test_every_point_says_what_it_is() -> None:
    titles = [title.text for title in parsed(sketch.lines({"loss": [(0, 0.25), (1, 4.0)]}, "x", "y")).iter("title")]
    assert titles == ["loss: 0.25", "loss: 4"]


def test_a_handle_names_its_widget_and_the_scale_turns_its_place_back_into_the_number() -> None:
    marks = [Mark(0, 0.2, "merge-lines-alpha", "first"), Mark(4, 1.0, "merge-lines-beta", "last", less="merge-lines-alpha")]
    svg = parsed(sketch.lines({"factor": [(0, 0.2), (4, 1.0)]}, "layer", "factor", marks=marks))
    handles = [circle for circle in svg.iter("circle") if circle.attrib.get("class") == "handle"]
    assert [handle.attrib["data-handle"] for handle in handles] == ["merge-lines-alpha", "merge-lines-beta"]
    assert [handle.attrib["data-less"] for handle in handles] == ["", "merge-lines-alpha"]
    low, high, top, bottom = (float(svg.attrib[f"data-{name}"]) for name in ("low", "high", "top", "bottom"))
    for handle, mark in zip(handles, marks, strict=True):
        assert low + (bottom - float(handle.attrib["cy"])) / (bottom - top) * (high - low) == pytest.approx(mark.y, abs=0.005)


def test_beads_hang_as_far_from_the_base_as_they_are() -> None:
    svg = parsed(sketch.beads({"base": (0.0, 0.0), "a": (0.3, 0.4), "b": (0.5, 0.0), "merged": (0.0, -0.25)}, "merged", "models"))
    lines = {line.attrib["class"].strip(): line for line in svg.iter("line")}
    lengths = [
        ((float(line.attrib["x2"]) - float(line.attrib["x1"])) ** 2 + (float(line.attrib["y2"]) - float(line.attrib["y1"])) ** 2) ** 0.5
        for line in svg.iter("line")
    ]
    assert lengths[0] == pytest.approx(lengths[1], abs=0.2) and lengths[2] == pytest.approx(lengths[0] / 2, abs=0.2)
    assert "string strong" in lines and next(title.text for title in svg.iter("title")).startswith("a: 50 %")


def test_models_that_never_moved_can_be_drawn() -> None:
    assert parsed(sketch.beads({"base": (0.0, 0.0), "a": (0.0, 0.0), "merged": (0.0, 0.0)}, "merged", "models")) is not None


def test_foreign_words_are_escaped() -> None:
    drawn = sketch.lines({EVIL: [(0, 1.0), (1, 2.0)], "b": [(0, 1.0)]}, EVIL, EVIL) + sketch.beads({"base": (0, 0), EVIL: (1, 1)}, "", EVIL)
    assert "<script>" not in drawn and "${" not in drawn


@pytest.mark.parametrize(("low", "high", "expected"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 7, [-2, 0, 2, 4, 6]), (2, 2, [2])])
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert even(low, high, 5) == pytest.approx(expected)


def test_all_that_is_coloured_takes_its_colour_from_the_page() -> None:
    assert not re.search(r"#[0-9a-fA-F]{6}", sketch.lines({"a": [(0, 1.0), (1, 2.0)]}, "x", "y"))


def test_a_histogram_stacks_its_counts_and_shows_the_smallest_bar() -> None:
    drawn = sketch.bars(
        [0, 1, 2], {"rows that stay": [1_000_000, 0], "rows <that> go": [0, 1]}, [1.5], "letters & words", "rows", "a title"
    )
    boxes = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawn)
    assert len(boxes) == 2, "what is not there is not drawn"
    assert float(boxes[1][2]) == 1 and float(boxes[0][0]) < float(boxes[1][0])
    assert "1 to 2: 1 rows &lt;that&gt; go" in drawn and "letters &amp; words" in drawn and 'aria-label="a title"' in drawn
    (cut,) = re.findall(r'class="cut" x1="([\d.]+)"', drawn)
    assert float(boxes[0][0]) < float(cut) and float(cut) > float(boxes[1][0]), "halfway in the second"


def test_the_stacks_of_a_histogram_stand_on_one_another() -> None:
    drawn = sketch.bars([0, 1], {"a": [30], "b": [10]}, [], "x", "rows", "")
    (low, low_tall), (high, high_tall) = (
        (float(y), float(tall)) for y, tall in re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawn)
    )
    assert high + high_tall == pytest.approx(low, abs=0.11) and low_tall == pytest.approx(3 * high_tall, rel=0.01)


def test_names_of_models_in_one_place_do_not_lie_on_each_other() -> None:
    places = {"base": (0.0, 0.0), "a": (0.3, 0.0), "b": (0.3, 0.001), "merged": (0.3, 0.0)}
    svg = parsed(sketch.beads(places, "merged", "models"))
    heights = sorted(float(text.attrib["y"]) for text in svg.iter("text") if text.text != "base")
    assert all(below - above >= 14.9 for above, below in pairwise(heights))
    assert sum(heights) / 3 == pytest.approx(HEIGHT / 2 + 4, abs=0.5), "apart around where they are"
