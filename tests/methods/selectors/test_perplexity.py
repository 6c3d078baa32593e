"""Perplexity: both ends go by percentile, rows on a line and rows without a number stay."""

import math

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.perplexity import Perplexity

ROWS = [Example(text=f"row {number}") for number in range(21)]


def told(nats: list[float], tokens: list[float] | None = None) -> Given:
    """A surprise of so many nats a token, row for row."""
    counts = tokens or [2.0] * len(nats)
    return Given(surprise={row.text: [each * count, count] for row, each, count in zip(ROWS, nats, counts, strict=False)})


def test_both_ends_go_and_a_row_on_a_line_stays() -> None:
    around = told([float(20 - place) for place in range(21)], [1.0 + place % 3 for place in range(21)])
    found = drain(Perplexity(least_percentile=10, most_percentile=75).keep(ROWS, around))
    assert [score for score, kept in zip(found.scores, found.kept, strict=True) if kept] == list(range(15, 1, -1)) and found.cuts == (2, 15)
    assert found.reasons[0] == "surprise per learnt token, in nats: 20, above 15, where 75 % of the rows end"
    assert found.reasons[20] == "surprise per learnt token, in nats: 0, below 2, where 10 % of the rows end"


def test_it_goes_by_the_mean_and_not_by_the_sum() -> None:
    found = drain(Perplexity(most_percentile=50, least_percentile=0).keep(ROWS[:3], told([1, 3, 2], [50, 1, 2])))
    assert list(found.scores) == [1, 3, 2] and found.kept == [True, False, True]


def test_a_row_without_a_number_stays_and_counts_for_nothing() -> None:
    found = drain(Perplexity(least_percentile=0, most_percentile=50).keep(ROWS[:4], told([1, 2, 3, math.nan], [1, 1, 1, 0])))
    assert found.kept == [True, True, False, True] and math.isnan(found.scores[3])
    found = drain(Perplexity().keep(ROWS[:2], told([math.nan] * 2, [0, 0])))
    assert found.kept == [True, True] and found.cuts == () and len(found.scores) == 2


@pytest.mark.parametrize(("least", "most"), [(0, 100), (5, 95)])
def test_the_widest_range_keeps_all_and_so_do_equals(least: float, most: float) -> None:
    method = Perplexity(least_percentile=least, most_percentile=most)
    found = drain(method.keep(ROWS, told([1.3] * 21)))
    assert all(found.kept) and found.cuts == () and not found.reasons
    assert sum(drain(method.keep(ROWS, told([math.sqrt(place) for place in range(21)]))).kept) == (21 if least == 0 else 19)


@pytest.mark.parametrize("count", [1, 2, 5, 19])
def test_a_share_of_less_than_a_row_is_none(count: int) -> None:
    assert all(drain(Perplexity().keep(ROWS[:count], told([float(place) for place in range(count)]))).kept)


def test_a_share_of_more_than_a_row_is_one() -> None:
    found = drain(Perplexity(least_percentile=30, most_percentile=70).keep(ROWS[:5], told([0, 1, 2, 3, 4])))
    assert found.kept == [False, True, True, True, False], "30 % of five rows is one"


@pytest.mark.parametrize(("least", "most"), [(95, 5), (50, 50)])
def test_lines_that_leave_nothing_between_them_are_a_sentence(least: float, most: float) -> None:
    with pytest.raises(WorkbenchError, match=f"none lie above {least} % and below {most} %"):
        drain(Perplexity(least_percentile=least, most_percentile=most).keep(ROWS[:3], told([1, 2, 3])))
