"""The strongest directions of an operator are its eigenvectors of largest value."""

import pytest
import torch
from torch import Tensor

from workbench.materials.directions import leading


def found(matrix: Tensor, count: int, seed: int = 0) -> Tensor:
    return leading(lambda x: matrix @ x, len(matrix), count, torch.Generator().manual_seed(seed), matrix.device)


def planted(size: int, values: Tensor) -> tuple[Tensor, Tensor]:
    """A symmetric matrix with these eigenvalues, and its eigenvectors."""
    vectors = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(3))).Q
    return (vectors * values) @ vectors.T, vectors


@pytest.mark.parametrize("count", [3, 20])
def test_they_are_the_eigenvectors_of_largest_value_strongest_first(count: int) -> None:
    """Three of forty, by iteration; twenty, by the whole space."""
    matrix, vectors = planted(40, torch.linspace(1, 0, 40) ** 4)
    ours = found(matrix, count)
    assert ours.shape == (40, count) and torch.allclose(ours.T @ ours, torch.eye(count), atol=1e-5)
    assert torch.allclose((ours[:, :3] * vectors[:, :3]).sum(0).abs(), torch.ones(3), atol=1e-3)


def test_an_operator_of_lower_rank_still_gives_orthonormal_directions() -> None:
    matrix, vectors = planted(40, torch.tensor([2.0, 1.0] + [0.0] * 38))
    ours = found(matrix, 5)
    assert torch.allclose(ours.T @ ours, torch.eye(5), atol=1e-5)
    assert torch.allclose((ours[:, :2] * vectors[:, :2]).sum(0).abs(), torch.ones(2), atol=1e-4)


def test_they_follow_from_the_generator_alone() -> None:
    matrix, _ = planted(40, torch.linspace(1, 0, 40))
    random = torch.get_rng_state()
    assert torch.equal(found(matrix, 2), found(matrix, 2)) and not torch.equal(found(matrix, 2), found(matrix, 2, seed=1))
    assert torch.equal(torch.get_rng_state(), random)
