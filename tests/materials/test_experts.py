"""The router of experts on a shared MLP: whom it chooses, what balance is, and what is remembered of it. The rest: `test_mixlora.py`."""

import pytest
import torch
from torch import Tensor, nn

from workbench.materials.experts import Experts, balance


def experts() -> tuple[Experts, Tensor]:
    """With a random router, and tokens for it."""
    own, generator = Experts(width=32, inner=48, experts=4, chosen=2, rank=3, scale=2.0), torch.Generator().manual_seed(1)
    nn.init.normal_(own.router, std=0.3, generator=generator)
    return own, torch.randn(50, 32, generator=generator)


def test_the_balance_is_one_where_all_get_equally_much_and_as_many_as_there_are_where_one_gets_all() -> None:
    even, one, two = torch.full((8, 4), 0.25), torch.arange(8)[:, None] % 4, (torch.arange(8)[:, None] + 1) % 4
    assert balance(even, one) == 1 == balance(even, torch.cat([one, two], 1))
    nobody_else = nn.functional.one_hot(torch.zeros(8, dtype=torch.int64), 4).float()
    assert balance(nobody_else, torch.zeros(8, 1, dtype=torch.int64)) == 4


def test_the_shares_of_a_token_add_up_to_one_and_are_the_likeliest() -> None:
    own, x = experts()
    shares, chosen = own._routed(x)
    probabilities = (x @ own.router.T).softmax(-1)
    assert torch.allclose(shares.sum(-1), torch.ones(50)) and chosen.shape == (50, 2)
    assert torch.allclose(shares[:, 0] / shares[:, 1], (lambda top: top[:, 0] / top[:, 1])(probabilities.topk(2).values))


def test_half_precision_chooses_no_other_experts() -> None:
    own, x = experts()
    shares, chosen = own._routed(x)
    with torch.autocast("cpu", torch.bfloat16):
        again = own._routed(x)
    assert torch.equal(again[0], shares) and torch.equal(again[1], chosen)


def test_what_is_added_up_is_the_gradient_of_the_balance_and_keeps_no_graph() -> None:
    own, x = experts()
    probabilities = (x @ own.router.T).softmax(-1)
    (wanted,) = torch.autograd.grad(balance(probabilities, probabilities.topk(2).indices), own.router)
    own.train()._routed(x.requires_grad_())
    pull = own.pull()
    assert pull is not None and not pull.requires_grad and torch.allclose(pull, wanted, atol=1e-6) and wanted.abs().max() > 1e-3
    own._routed(x)
    assert torch.allclose(own.pull(), pull), "read again, the mean is the same"
    own.forget()
    assert own.pull() is None


@pytest.mark.parametrize("training", [True, False])
def test_only_a_pass_that_trains_counts(training: bool) -> None:
    own, x = experts()
    own.train(training)._routed(x)
    assert (own.pull() is not None) == training
