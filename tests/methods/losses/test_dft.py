"""DFT (arXiv:2508.05629): its gradient is that of −Σ q, and a token at one half weighs one half."""

import torch

from workbench.methods.contracts import TokenStats
from workbench.methods.losses.dft import DFT


def test_its_gradient_is_that_of_minus_the_probability() -> None:
    logits, labels = torch.randn(6, 9, requires_grad=True), torch.randint(0, 9, (6,))
    logp = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
    ours = torch.autograd.grad(-(DFT().weights(TokenStats(logp, torch.ones(6))) * logp).sum(), logits, retain_graph=True)[0]
    theirs = torch.autograd.grad(-logp.exp().sum(), logits)[0]
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_a_token_at_one_half_weighs_one_half() -> None:
    logp = torch.tensor([0.5]).log()
    assert torch.allclose(DFT().weights(TokenStats(logp, torch.ones(1))), torch.tensor([0.5]))
    assert torch.allclose(DFT(power=0.5).weights(TokenStats(logp, torch.ones(1))), torch.tensor([0.5**0.5]))
