"""Angles from inner products: as anyone would take them from the vectors, with zero vectors and batches."""

import math

import pytest
import torch

from workbench.materials.angles import mean_cosine, model_products, steady
from workbench.materials.tensors import task_gram


def test_products_of_the_models_follow_from_those_of_their_task_vectors() -> None:
    base, *tuned = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    flat = torch.stack([base, *tuned]).flatten(1).double()
    assert torch.allclose(model_products(task_gram(base, tuned)), flat @ flat.T, rtol=1e-12)


def test_a_model_of_zeros_has_products_of_zero() -> None:
    base = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    found = model_products(task_gram(base, [torch.zeros_like(base), 2 * base]))
    assert found[1].tolist() == [0.0, 0.0, 0.0] and found[2, 2] == pytest.approx(4 * float(base.double().square().sum()))


def test_the_cosine_of_pairs() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).double()
    assert float(mean_cosine((vectors @ vectors.T)[:2, :2])) == pytest.approx(math.sqrt(0.5))
    assert float(mean_cosine(vectors @ vectors.T)) == pytest.approx(math.sqrt(0.5) / 3)
    both = torch.stack([vectors[:2] @ vectors[:2].T, torch.eye(2).double()])
    assert mean_cosine(both).tolist() == pytest.approx([math.sqrt(0.5), 0.0])


def test_steady_numbers_keep_32_digits_and_no_more() -> None:
    exact = torch.tensor([1.0, -0.75, 3.0, 0.0], dtype=torch.float64)
    assert torch.equal(steady(exact), exact)
    third = torch.tensor(1 / 3, dtype=torch.float64)
    assert steady(third) == steady(third * (1 + 1e-15)) and steady(third) == pytest.approx(1 / 3, rel=2**-32)
