"""The strip of blocks that move: each share from where it is told until the next, over the steps that were taken."""

import re

from workbench.ui.strip import stayed, strip


def bars(markup: str) -> list[tuple[float, float, float, float]]:
    """(x, y, width, opacity) of each bar."""
    found = re.findall(r'<rect x="([\d.]+)" y="(\d+)" width="([\d.]+)" height="\d+" fill-opacity="([\d.]+)"', markup)
    return [(float(x), float(y), float(width), float(opacity)) for x, y, width, opacity in found]


def test_a_share_holds_until_another_is_told_and_the_last_to_where_the_run_stands() -> None:
    drawn = bars(strip({0: [(1, 1.0), (5, 0.0)], 1: [(1, 0.0), (5, 0.5)]}, last=10))
    assert drawn == [(0, 0, 240, 0), (240, 0, 360, 0.5), (0, 10, 240, 1), (240, 10, 360, 0)], "block 0 is at the bottom"
    assert "1 block of 2 move now" in strip({0: [(1, 1.0), (5, 0.0)], 1: [(1, 0.0), (5, 0.5)]}, last=10)


def test_a_run_without_such_numbers_has_no_strip() -> None:
    assert strip({}, last=10) == "" and stayed([]) == ""


def test_what_stayed_is_told_of_the_last_choice() -> None:
    assert "2 times" in stayed([0.5, 0.91]) and "91%" in stayed([0.5, 0.91])
