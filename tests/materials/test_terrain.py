"""The map, its cells and its gauges: the axes are the principal ones, cells hold as many, and quotas add up."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.materials import terrain
from workbench.materials.terrain import cells, coverage, flat, mean_depth, quotas

WIDE = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1])
ROWS = torch.randn(300, 12, generator=torch.Generator().manual_seed(0)) * WIDE + 7


def test_the_axes_are_the_principal_ones() -> None:
    centred = ROWS - ROWS.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    assert torch.allclose(flat(ROWS), centred @ axes.T, atol=1e-3)


def test_turning_the_rows_turns_no_map_and_the_random_numbers_of_others_are_left_alone() -> None:
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    state = torch.get_rng_state()
    first, turned = flat(ROWS), flat(ROWS @ turn)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(first, flat(ROWS))
    assert torch.allclose(first.abs(), turned.abs(), atol=1e-3), "but for the signs of the axes"


def test_a_large_set_is_mapped_by_a_sample_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = flat(ROWS)
    monkeypatch.setattr(terrain, "SAMPLE", 100)
    part = flat(ROWS)
    assert part.shape == (300, 2) and not torch.equal(part, whole)
    assert all(torch.corrcoef(torch.stack([part[:, axis], whole[:, axis]]))[0, 1] > 0.95 for axis in (0, 1))


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (2, 1), (4, 2), (3, 40)])
def test_few_rows_and_narrow_ones_have_a_map(shape: tuple[int, int]) -> None:
    found = flat(torch.ones(shape))
    assert found.shape == (shape[0], 2) and torch.allclose(found, torch.zeros_like(found), atol=1e-5)
    assert cells(found, 3).unique().shape == (min(1, shape[0]),), "equal rows share a cell"


def test_each_column_and_each_line_holds_as_many() -> None:
    points = torch.stack([torch.randn(120, generator=torch.Generator().manual_seed(seed)).exp() for seed in (0, 1)], 1)
    found = cells(points, 6)
    assert found.dtype == torch.int64 and (found // 6).bincount().tolist() == (found % 6).bincount().tolist() == [20] * 6
    columns = [points[found // 6 == column, 0] for column in range(6)]
    assert all(left.max() < right.min() for left, right in itertools.pairwise(columns))
    assert cells(points, 1).unique().tolist() == [0]


def test_the_gauges() -> None:
    where = torch.tensor([0, 0, 4, 4, 7, 9])
    kept = torch.tensor([True, True, True, True, False, False])
    assert coverage(kept, where) == 0.5 and coverage(torch.ones(6, dtype=torch.bool), where) == 1 and coverage(kept & False, where) == 0
    assert coverage(torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)) == 1
    assert mean_depth(kept, torch.tensor([1.0, math.nan, 2, 3, 9, 9])) == 2 and math.isnan(mean_depth(kept & False, where.float()))


SIZES = st.lists(st.integers(0, 30), max_size=12)


@given(sizes=SIZES, count=st.integers(0, 80), alpha=st.floats(0, 1))
def test_quotas_add_up_and_reach_every_cell_if_they_can(sizes: list[int], count: int, alpha: float) -> None:
    given_out = quotas(sizes, count, alpha)
    assert sum(given_out) == min(count, sum(sizes)) and all(0 <= one <= size for one, size in zip(given_out, sizes, strict=True))
    there = sum(size > 0 for size in sizes)
    assert sum(one > 0 for one in given_out) == min(there, count)


def test_alpha_says_how_far_large_cells_keep_more() -> None:
    sizes = [100, 25, 4, 0]
    assert quotas(sizes, 30, 0) == [13, 13, 4, 0], "as many of each, and what the small one has not is shared"
    assert quotas(sizes, 34, 0.5) == [20, 10, 4, 0], "as the roots of the sizes: 10, 5 and 2"
    assert quotas(sizes, 26, 1) == [20, 5, 1, 0], "a fifth of each"
    assert quotas(sizes, 2, 0.5) == [1, 1, 0, 0] and quotas([3, 9, 9], 2, 1) == [0, 1, 1]
