"""Rows of the map that are chosen by number: a row and those that lie nearest to it."""

import pytest

from workbench.core.errors import WorkbenchError
from workbench.jobs.surveying import Spot
from workbench.ui.terrain import nearest

LINE = [Spot(row, 0.1 * row, 0.0, True, "") for row in (1, 3, 5, 7, 9)]


def test_a_row_and_its_nearest_in_the_order_of_the_file() -> None:
    assert nearest(LINE, 5, 2) == (3, 5, 7)
    assert nearest(LINE, 9, 2) == (5, 7, 9)
    assert nearest(LINE, 3, 100) == (1, 3, 5, 7, 9)


def test_the_row_itself_is_among_them_even_where_others_lie_on_the_same_spot() -> None:
    same = [Spot(row, 0.0, 0.0, True, "") for row in range(1, 9)]
    assert all(row in nearest(same, row, 2) and len(nearest(same, row, 2)) == 3 for row in range(1, 9))


def test_both_directions_count() -> None:
    spots = [Spot(1, 0.0, 0.0, True, ""), Spot(2, 0.0, 3.0, True, ""), Spot(3, 2.0, 0.0, True, "")]
    assert nearest(spots, 1, 1) == (1, 3)


@pytest.mark.parametrize("spots", [LINE, []], ids=["another row", "no row at all"])
def test_a_row_that_is_not_there_is_told(spots: list[Spot]) -> None:
    with pytest.raises(WorkbenchError, match=r"Row 4 is not on this map.*choose another"):
        nearest(spots, 4, 2)
