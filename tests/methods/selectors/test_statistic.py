"""A statistic in a range: the bounds are inclusive, the widest range keeps all, and what is cut at is told."""

import math

import pytest
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.materials.statistics import STATISTICS
from workbench.methods.selectors.statistic import Statistic

AROUND = Given()


def answer(text: str) -> Example:
    return Example(({"role": "user", "content": "?"}, {"role": "assistant", "content": text}))


ROWS = [answer("x" * 4), answer("x" * 5), answer("x" * 9), answer("x" * 10), Example(text="x" * 9)]


def test_the_bounds_are_inclusive_and_the_scores_are_told() -> None:
    found = drain(Statistic(least=5, most=9).keep(ROWS, AROUND))
    assert found.kept == [False, True, True, False, True] and list(found.scores) == [4, 5, 9, 10, 9]
    assert found.cuts == (5, 9) and found.what == "characters of the answer"
    assert found.reasons == {
        0: "characters of the answer: 4, fewer than 5",
        3: "characters of the answer: 10, more than 9",
    }


@pytest.mark.parametrize("of", STATISTICS)
def test_the_widest_range_keeps_all_and_has_no_line(of: str) -> None:
    found = drain(Statistic(of=of, most=1e9).keep([answer(""), *ROWS], AROUND))
    assert all(found.kept) and all(map(math.isfinite, found.scores)) and not [cut for cut in found.cuts if cut == 1e9]


def test_it_looks_at_the_text_it_is_told_to() -> None:
    rows = [Example(({"role": "user", "content": "two words"}, {"role": "assistant", "content": "one"}))]
    found = [list(drain(Statistic(of="words", text=text).keep(rows, AROUND)).scores) for text in ("question", "answer", "row")]
    assert found == [[2], [1], [5]], "a whole row names who speaks: 'user: two words' and 'assistant: one'"
