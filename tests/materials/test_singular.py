"""Singular directions against a full decomposition, and how the directions of one matrix lie to those of another."""

import math

import pytest
import torch
from torch import Tensor

from workbench.materials.singular import best_match, directions, inside


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (25, 25)])
def test_they_are_those_of_a_full_decomposition(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    found, left_values = directions(matrix), torch.linalg.svd(matrix.double(), full_matrices=False)
    assert torch.allclose(found.values, left_values.S, rtol=1e-9)
    assert torch.allclose((found.left * left_values.U).sum(0).abs(), torch.ones_like(found.values))
    assert torch.allclose((found.right * left_values.Vh.T).sum(0).abs(), torch.ones_like(found.values))
    assert torch.allclose(found.whole(), matrix.double(), atol=1e-9)
    assert torch.allclose(found.left.T @ found.left, torch.eye(min(shape), dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
def test_a_matrix_of_rank_three_has_three_and_one_of_zeros_none(shape: tuple[int, int]) -> None:
    flat = random(shape[0], 3) @ random(3, shape[1], seed=1)
    assert directions(flat).values.shape == (3,)
    nothing = directions(torch.zeros(shape))
    assert nothing.values.shape == (0,) and nothing.left.shape == (shape[0], 0) and nothing.right.shape == (shape[1], 0)
    assert best_match(directions(flat), nothing).tolist() == inside(directions(flat), nothing).tolist() == [0, 0, 0]


def test_the_strongest_come_first_and_the_chosen_make_up_their_part() -> None:
    found = directions(torch.diag(torch.tensor([1.0, 3.0, 2.0])))
    assert found.values.tolist() == pytest.approx([3, 2, 1]) and found.strongest(2).values.tolist() == pytest.approx([3, 2])
    middle = found.chosen(torch.tensor([False, True, False])).whole()
    assert torch.allclose(middle, torch.diag(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)))


def test_a_direction_halfway_between_two_matches_them_by_its_cosine() -> None:
    base = directions(torch.diag(torch.tensor([3.0, 2.0, 1.0])))
    halfway = torch.outer(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
    assert best_match(directions(halfway), base).tolist() == pytest.approx([math.sqrt(0.5)])
    assert inside(directions(halfway), base).tolist() == pytest.approx([1])


def test_what_leaves_the_span_of_a_tall_matrix_is_seen() -> None:
    base = directions(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    own = directions(torch.tensor([[3.0], [0.0], [4.0]]))
    assert inside(own, base).tolist() == pytest.approx([0.6]) and best_match(own, base).tolist() == pytest.approx([0.6])
