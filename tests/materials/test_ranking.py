"""The best rows stay, as many as the share says; equals in the order of the rows; one without a number never."""

import math

import pytest

from workbench.materials.ranking import best, budget


@pytest.mark.parametrize(("share", "count", "stay"), [(0.1, 0, 0), (0.01, 5, 1), (0.5, 5, 3), (0.1, 100, 10), (1, 7, 7), (0.3, 5, 2)])
def test_a_share_is_so_many_rows(share: float, count: int, stay: int) -> None:
    assert budget(share, count) == stay


def test_the_highest_or_the_lowest_stay_and_equals_in_their_order() -> None:
    scores = [3.0, 1.0, 3.0, 2.0, 3.0]
    assert best(scores, 0.4, "worth").kept == [True, False, True, False, False]
    assert best(scores, 0.4, "worth", lowest=True).kept == [False, True, False, True, False]


def test_the_line_lies_between_what_stays_and_what_goes_and_every_reason_has_the_number() -> None:
    found = best([4.0, 1.0, 2.0, 8.0], 0.5, "worth")
    assert found.cuts == (3.0,) and found.reasons == {
        1: "worth: 1; the 2 highest stay",
        2: "worth: 2; the 2 highest stay",
    }
    assert best([4.0, 1.0], 1, "worth").cuts == ()


def test_a_row_without_a_number_goes_even_where_there_is_room() -> None:
    found = best([math.nan, 1.0, math.nan], 1, "worth")
    assert found.kept == [False, True, False] and found.reasons[0] == "worth: there is none"
    assert best([], 0.5, "worth").kept == []
