"""The strip of blocks that move: each share from where it is told until the next, over the steps that were taken."""

import re
from types import SimpleNamespace
from typing import Any

from workbench.ui.strip import shared, stayed, strip, strip_of


def bars(markup: str) -> list[tuple[float, float, float, float]]:
    """(x, y, width, opacity) of each bar."""
    found = re.findall(r'<rect x="([\d.]+)" y="(\d+)" width="([\d.]+)" height="\d+" fill-opacity="([\d.]+)"', markup)
    return [(float(x), float(y), float(width), float(opacity)) for x, y, width, opacity in found]


def test_a_share_holds_until_another_is_told_and_the_last_to_where_the_run_stands() -> None:
    drawn = bars(strip({0: [(1, 1.0), (5, 0.0)], 1: [(1, 0.0), (5, 0.5)]}, last=10))
    assert drawn == [(0, 0, 240, 0), (240, 0, 360, 0.5), (0, 10, 240, 1), (240, 10, 360, 0)], "block 0 is at the bottom"
    assert "1 block of 2 move now" in strip({0: [(1, 1.0), (5, 0.0)], 1: [(1, 0.0), (5, 0.5)]}, last=10)


def test_what_moves_now_is_what_was_told_last() -> None:
    assert "1 block of 2 move now" in strip({0: [(1, 1.0), (5, 0.0)], 1: [(1, 1.0)]}, last=10)
    assert "2 blocks of 2 move now" in strip({0: [(1, 0.0), (5, 0.2)], 1: [(1, 1.0)]}, last=10)


def test_a_run_without_such_numbers_has_no_strip() -> None:
    assert strip({}, last=10) == "" and stayed([]) == ""


def test_an_expert_is_as_dark_as_its_share_twice_an_equal_one_at_most() -> None:
    drawn = shared({0: [(1, 0.5), (6, 0.25)], 1: [(1, 0.5), (6, 0.25)], 2: [(1, 0.0), (6, 0.25)], 3: [(1, 0.0), (6, 0.75)]}, last=10)
    assert [opacity for *_, opacity in bars(drawn)] == [0, 1, 0, 0.5, 1, 0.5, 1, 0.5], "from the last expert to the first"
    assert "Equal shares are 25%; expert 3 has most now, 75%" in drawn and shared({}, last=10) == ""


def test_what_stayed_is_told_of_the_last_choice() -> None:
    assert "2 times" in stayed([0.5, 0.91]) and "91%" in stayed([0.5, 0.91])


def test_the_strip_of_a_run_is_drawn_from_what_it_measured() -> None:
    lines = {
        "loss": ([1, 2, 3, 10], [3.0, 2.0, 1.0, 1.0]), "moving/0": ([1, 5], [1.0, 0.0]), "moving/1": ([1, 5], [0.0, 0.5]),
        "mask_kept": ([3, 5], [0.5, 0.91]), "moving_average": ([1], [9.0]),
    }  # fmt: skip
    asked = list[list[str]]()

    def store(*names: str) -> Any:
        return SimpleNamespace(names=lambda run: list(names), lines=lambda run, own: asked.append(own) or {one: lines[one] for one in own})

    def drawn(*names: str) -> str:
        return strip_of(SimpleNamespace(store=store(*names)), "0001")  # type: ignore[arg-type]

    both = drawn("loss", "moving/0", "mask_kept", "moving/1", "moving_average")
    assert bars(both) == [(0, 0, 240, 0), (240, 0, 360, 0.5), (0, 10, 240, 1), (240, 10, 360, 0)] and stayed([0.5, 0.91]) in both
    assert sorted(asked[0]) == ["loss", "mask_kept", "moving/0", "moving/1"], "nothing else is read"
    assert stayed([0.5, 0.91]) in drawn("mask_kept", "loss") and "<svg" not in drawn("mask_kept", "loss")
    lines["expert_load/0"], lines["expert_load/1"] = ([1], [0.4]), ([1], [0.6])
    assert "What each expert is given" in drawn("loss", "expert_load/0", "expert_load/1") and "Which blocks" not in drawn(
        "loss", "expert_load/0"
    )
    assert drawn("loss", "moving_average") == "" and strip_of(SimpleNamespace(store=store()), None) == ""  # type: ignore[arg-type]
