"""A random sample: as many as asked, nested, the seed's, and the same whatever else is there."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as some
from surroundings import Given

from workbench.core.job import drain
from workbench.materials.rows import Example
from workbench.methods.selectors.random_sample import RandomSample

AROUND = Given()
ROWS = [Example(text=f"row {number}") for number in range(400)]


def left(among: list[Example] = ROWS, **knobs: float) -> list[str]:
    kept = drain(RandomSample(**knobs).keep(among, AROUND)).kept
    return [row.text for row, stays in zip(among, kept, strict=True) if stays]


@given(some.sampled_from([0.01, 0.05, 0.3, 1.0]), some.integers(0, 500))
def test_as_many_stay_as_asked(share: float, rows: int) -> None:
    assert len(left(share=share, rows=rows)) == (min(rows, 400) or round(400 * share))


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    sizes = [left(rows=rows) for rows in (10, 40, 41, 200)] + [left(share=0.9)]
    assert all(set(few) < set(many) for few, many in itertools.pairwise(sizes))


def test_the_seed_draws_and_every_row_has_its_chance() -> None:
    assert left(seed=1) == left(seed=1) != left(seed=2)
    often = [sum(f"row {number}" in left(ROWS[:20], share=0.5, seed=seed) for seed in range(60)) for number in range(20)]
    assert min(often) > 12 and max(often) < 48, "of 60 draws 30 on average"


def test_a_row_that_goes_moves_no_other() -> None:
    whole, fewer = left(share=0.5), left(ROWS[1:], share=0.5)
    assert len(set(whole) ^ set(fewer)) <= 2


def test_copies_stay_together_and_the_order_does_not_count() -> None:
    twice = left([*ROWS, *ROWS], share=0.25)
    assert sorted(twice) == sorted(2 * left(share=0.25))
    assert sorted(left(ROWS[::-1])) == sorted(left())


@pytest.mark.parametrize("rows", [1, 5, 9])
def test_a_reason_tells_the_place(rows: int) -> None:
    found = drain(RandomSample(rows=rows).keep(ROWS[:10], AROUND))
    assert len(found.reasons) == 10 - rows and len(found.cuts) == 1
    assert all(reason.endswith(f"; the {rows} lowest stay") for reason in found.reasons.values())
