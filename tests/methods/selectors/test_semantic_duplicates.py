"""Semantic duplicates: no two rows of a group that stay are nearly the same, and each that goes is nearly the same as one that stays."""

import math

import pytest
import torch
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.clusters import spherical
from workbench.materials.rows import Chosen, Example
from workbench.methods.selectors.semantic_duplicates import SemanticDuplicates

DRAW = torch.Generator().manual_seed(0)
APART = torch.nn.functional.normalize(torch.randn(40, 8, generator=DRAW), dim=-1)
ROWS = [Example(text=f"row {number}", source="rows.csv", line=100 + number) for number in range(60)]
VECTORS = torch.cat([APART, torch.nn.functional.normalize(APART[:20] + 0.05 * torch.randn(20, 8, generator=DRAW), dim=-1)])
AROUND = Given(vectors={row.text: vector.tolist() for row, vector in zip(ROWS, VECTORS, strict=True)})


@pytest.mark.parametrize("order", ["hard", "easy", "first"])
def test_what_stays_is_apart_and_what_goes_is_like_one_that_stays(order: str) -> None:
    found = drain(SemanticDuplicates(order=order, clusters=1).keep(ROWS, AROUND))
    kept = [row for row, stays in enumerate(found.kept) if stays]
    cosines = VECTORS @ VECTORS.T
    among = cosines[kept][:, kept].fill_diagonal_(0)
    assert among.max() <= 0.95 and 35 <= len(kept) <= 42
    for row, reason in found.reasons.items():
        likest = max(kept, key=lambda other: cosines[row, other])
        assert cosines[row, likest] > 0.95 and math.isclose(found.scores[row], cosines[row, likest], abs_tol=1e-5)
        assert reason.startswith(
            f"means nearly the same as line {100 + likest} of rows.csv, which is kept; the cosine of their vectors is 0.9"
        )
    assert found.cuts == (0.95,) and sum(map(math.isnan, found.scores)) == 1, "the first row looked at has none before it"


def test_the_order_says_which_row_is_kept() -> None:
    """Three rows on a line: the two outer ones are each nearly the same as the middle one, and not as each other."""
    rows, given = ROWS[:3], {}
    for row, degrees in zip(rows, (0, 15, 30), strict=True):
        given[row.text] = [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]
    kept = {
        order: drain(SemanticDuplicates(order=order, clusters=1).keep(rows, Given(vectors=given))).kept
        for order in ("hard", "easy", "first")
    }
    assert kept == {"hard": [True, False, True], "easy": [False, True, False], "first": [True, False, True]}
    assert drain(SemanticDuplicates(order="first", clusters=1).keep([rows[1], rows[0], rows[2]], Given(vectors=given))).kept == [
        True, False, False,
    ]  # fmt: skip


def test_what_stays_stays_again() -> None:
    method = SemanticDuplicates(clusters=1, order="first")
    kept = [row for row, stays in enumerate(drain(method.keep(ROWS, AROUND)).kept) if stays]
    assert all(drain(method.keep(Chosen(ROWS, kept), AROUND)).kept)


def test_only_rows_of_a_group_are_compared_and_the_wider_the_more_go() -> None:
    kept = [sum(drain(SemanticDuplicates(clusters=count).keep(ROWS, AROUND)).kept) for count in (1, 60)]
    assert kept[0] < kept[1] == len(ROWS), "a group of its own for each row keeps all"
    wide = [sum(drain(SemanticDuplicates(epsilon=epsilon, clusters=1).keep(ROWS, AROUND)).kept) for epsilon in (0.001, 0.05, 0.5)]
    assert wide[0] > wide[1] > wide[2] > 0


def test_within_each_group_the_law_holds() -> None:
    found, (_, cluster, _) = drain(SemanticDuplicates(clusters=5, epsilon=0.3).keep(ROWS, AROUND)), drain(spherical(VECTORS, 5, 0))
    kept, alike = torch.tensor(found.kept), (VECTORS @ VECTORS.T).fill_diagonal_(0) > 0.7
    same = cluster[:, None] == cluster
    assert not (alike & same)[kept][:, kept].any() and (alike & same)[~kept][:, kept].any(1).all() and kept.sum() < 50
    assert (alike & ~same)[kept][:, kept].any(), "across the border of two groups nothing is compared"


def test_rows_equally_near_to_the_middle_go_by_their_order() -> None:
    near = torch.tensor([0.9, 0.5, 0.9 - 1e-7, 0.9 + 1e-7])
    for order, rows in {"hard": [1, 0, 2, 3], "easy": [0, 2, 3, 1]}.items():
        (found,) = SemanticDuplicates(order=order)._orders(torch.zeros(4, dtype=torch.int64), near, torch.ones(4, dtype=torch.bool))
        assert found.tolist() == rows


def test_rows_without_a_text_are_like_none_and_copies_are_one() -> None:
    rows = [Example(text=text) for text in ("", "said", " ", "said", "said")]
    found = drain(SemanticDuplicates().keep(rows, Given()))
    assert found.kept == [True, True, True, False, False] and math.isnan(found.scores[0])
    assert (
        found.reasons[4]
        == "means nearly the same as row 2 of those that reached this step, which is kept; the cosine of their vectors is 1"
    )
    assert drain(SemanticDuplicates().keep(rows[:1], Given())).kept == [True]
