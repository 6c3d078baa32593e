"""Muon (arXiv:2502.16982): a matrix moves along an orthogonal one of AdamW's length, a vector as AdamW moves it."""

import torch

from workbench.methods.updates.adamw import AdamW
from workbench.methods.updates.muon import Muon


def moved(knobs: AdamW | Muon, shape: tuple[int, ...], gradient: torch.Tensor) -> torch.Tensor:
    parameter = torch.nn.Parameter(torch.zeros(shape))
    stepper = knobs.begin([{"params": [parameter]}])
    parameter.grad = gradient.clone()
    stepper.step(1.0, lambda: None)
    return parameter.detach()


def test_the_step_of_a_matrix_has_nearly_equal_singular_values_and_adamws_length() -> None:
    gradient = torch.randn(24, 16, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.logspace(0, -2, 16))
    step = moved(Muon(lr=0.01, clip=0), (24, 16), gradient)
    values = torch.linalg.svdvals(step) / (0.01 * 0.2 * 24**0.5)
    assert values.min() > 0.5 and values.max() < 1.4, "the gradient's own spread over a factor of a hundred"
    adamw = moved(AdamW(lr=0.01, clip=0), (24, 16), gradient)
    assert 0.1 < step.norm() / adamw.norm() < 0.4, "0.2 of AdamW's first step, which is as long as its longest"


def test_it_goes_downhill_along_the_gradients_own_directions() -> None:
    gradient = torch.outer(torch.tensor([3.0, 0.0, -1.0]), torch.tensor([1.0, 2.0]))
    step = moved(Muon(lr=0.01, clip=0), (3, 2), gradient)
    assert (step * gradient).sum() < 0
    assert torch.linalg.matrix_rank(step, rtol=1e-2) == 1


def test_a_vector_moves_as_under_adamw() -> None:
    gradient = torch.tensor([1.0, -2.0, 0.5])
    assert torch.allclose(moved(Muon(lr=0.01), (3,), gradient), moved(AdamW(lr=0.01), (3,), gradient))
