"""GMT: exactly so many gradients of each tensor are kept, the largest; all of them is AdamW."""

import math

import pytest
import torch
from torch import Tensor, nn

from workbench.methods.contracts import Update
from workbench.methods.updates.adamw import AdamW
from workbench.methods.updates.gmt import GMT, largest


def run(update: Update, steps: int = 3) -> list[Tensor]:
    parameters = [nn.Parameter(torch.ones(4, 5)), nn.Parameter(torch.ones(7))]
    stepper, generator = update.begin([{"params": parameters}]), torch.Generator().manual_seed(0)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        stepper.step(1.0, lambda: None)
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(6, 7), (11,)])
def test_so_many_are_kept_as_they_are_and_none_is_larger(share: float, shape: tuple[int, ...]) -> None:
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = largest(gradient, share)
    kept = found != 0
    assert kept.sum() == math.ceil(share * gradient.numel()) and torch.equal(found[kept], gradient[kept])
    assert kept.all() or gradient[~kept].abs().max() < gradient[kept].abs().min()
    assert (largest(torch.ones(10), 0.25) != 0).sum() == 3, "also where all are alike"


def test_in_one_step_only_they_move_tensor_by_tensor() -> None:
    moved = [(own != 1).sum().item() for own in run(GMT(share=0.2), steps=1)]
    assert moved == [4, 2], "a small tensor has its share whatever a large one has"


def test_all_of_them_is_adamw() -> None:
    assert all(torch.equal(own, other) for own, other in zip(run(GMT(share=1)), run(AdamW()), strict=True))
    assert not torch.equal(run(GMT(share=0.2))[0], run(AdamW())[0])


def test_the_gradient_is_clipped_as_it_is_kept() -> None:
    """Of (3, 4) with half kept, 4 is clipped to 1; clipped first, it would be 0.8."""
    parameter = nn.Parameter(torch.zeros(2))
    stepper = GMT(share=0.5, clip=1.0).begin([{"params": [parameter]}])
    parameter.grad = torch.tensor([3.0, 4.0])
    stepper.step(1.0, lambda: None)
    assert stepper.state()["0.exp_avg"].tolist() == pytest.approx([0, 0.1], rel=1e-4)
