"""Symmetric cross-entropy (arXiv:1908.06112): α of cross-entropy and β |A| (1 − q), by its gradient."""

import torch

from workbench.methods.contracts import TokenStats
from workbench.methods.losses.dft import DFT
from workbench.methods.losses.symmetric import Symmetric

LOGP = torch.tensor([-0.01, -0.7, -4.0, -30.0], dtype=torch.double)


def test_its_gradient_is_that_of_the_formula() -> None:
    logp = LOGP.clone().requires_grad_()
    (0.3 * -logp + 2.0 * 4.0 * (1 - logp.exp())).sum().backward()
    ours = Symmetric(alpha=0.3, beta=2.0).weights(TokenStats(logp, torch.ones(4)))
    assert torch.allclose(ours, -logp.grad)


def test_without_plain_cross_entropy_it_is_dft() -> None:
    stats = TokenStats(LOGP, torch.ones(4))
    assert torch.allclose(Symmetric(alpha=0.0, beta=0.25).weights(stats), DFT().weights(stats))


def test_an_impossible_label_hardly_pulls() -> None:
    assert Symmetric(alpha=0.0).weights(TokenStats(LOGP, torch.ones(4)))[-1] < 1e-6
