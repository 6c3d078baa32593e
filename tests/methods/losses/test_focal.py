"""Focal loss (arXiv:1708.02002): the weights have the whole gradient of (1 − q)^γ · (−log q)."""

import pytest
import torch

from workbench.methods.contracts import TokenStats
from workbench.methods.losses.focal import Focal


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_its_gradient_is_that_of_the_formula(gamma: float) -> None:
    logp = torch.tensor([-1e-3, -0.1, -0.7, -3.0, -20.0], dtype=torch.double, requires_grad=True)
    (((1 - logp.exp()) ** gamma) * -logp).sum().backward()
    ours = Focal(gamma=gamma).weights(TokenStats(logp, torch.ones(5)))
    assert torch.allclose(ours, -logp.grad, rtol=1e-6)


def test_what_is_right_counts_less() -> None:
    weights = Focal().weights(TokenStats(torch.tensor([-5.0, -0.05]), torch.ones(2)))
    assert weights[0] > 0.99 and weights[1] < 0.01
