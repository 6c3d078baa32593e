"""A history: back and again are each other's reverse, a new change forgets what was taken back, and nothing is noted twice."""

from hypothesis import given
from hypothesis import strategies as st

from workbench.ui.undoing import EMPTY, MOST, again, back, noted

MOVES = st.lists(st.sampled_from(["back", "again", "a", "b", "c"]), max_size=30)


def played(moves: list[str]) -> dict[str, object]:
    history = EMPTY
    for move in moves:
        history = back(history) if move == "back" else again(history) if move == "again" else noted(history, {"path": move})
    return history


@given(MOVES)
def test_again_reverses_back_and_back_reverses_again(moves: list[str]) -> None:
    history = played(moves)
    assert again(back(history)) == history or not history["past"]
    assert back(again(history)) == history or not history["future"]


@given(MOVES)
def test_what_is_shown_is_noted_once(moves: list[str]) -> None:
    history = played(moves)
    if history["now"] is not None:
        assert noted(history, history["now"]) is history  # type: ignore[arg-type]


def test_a_worked_example() -> None:
    history = played(["a", "b", "c", "back", "back"])
    assert history["now"] == {"path": "a"} and not history["past"] and back(history) is history
    assert again(again(history))["now"] == {"path": "c"}
    changed = noted(again(history), {"path": "d"})
    assert again(changed) is changed and back(changed)["now"] == {"path": "b"}


def test_only_so_many_are_remembered() -> None:
    history = EMPTY
    for number in range(MOST + 10):
        history = noted(history, {"path": str(number)})
    assert len(history["past"]) == MOST and history["past"][-1] == {"path": str(MOST + 8)}
