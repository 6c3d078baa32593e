"""Model soups (arXiv:2203.05482): a mean worked by hand, exact copies, and the weights that have no mean."""

import math

import pytest
import torch

from workbench.core.errors import WorkbenchError
from workbench.methods.contracts import Slot
from workbench.methods.merges.linear import Linear

SLOT = Slot("model.norm.weight", None, None, 2)
BASE = torch.tensor([1.0, 2.0, 3.0, 4.0])
A, B = torch.tensor([2.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 5.0, 3.0, 4.0])


def test_the_weighted_mean_by_hand() -> None:
    assert Linear().tensor(SLOT, BASE, [A, B], [1, 1]).tolist() == [1.5, 3.5, 3.0, 4.0]
    assert Linear().tensor(SLOT, BASE, [A, B], [3, 1]).tolist() == [1.75, 2.75, 3.0, 4.0]
    assert torch.equal(Linear().tensor(SLOT, BASE, [A, B], [3, 1]), Linear().tensor(SLOT, BASE, [A, B], [30, 10]))


def test_without_normalising_the_base_gets_the_rest() -> None:
    apart = Linear(normalise=False)
    assert apart.tensor(SLOT, BASE, [A], [0.5]).tolist() == [1.5, 2.0, 3.0, 4.0]  # WiSE-FT
    assert apart.tensor(SLOT, BASE, [A, B], [1, 1]).tolist() == [2.0, 5.0, 3.0, 4.0]  # task arithmetic
    assert apart.tensor(SLOT, BASE, [A], [-1]).tolist() == [0.0, 2.0, 3.0, 4.0]  # forgetting by negation
    assert torch.equal(apart.tensor(SLOT, BASE, [A, B], [0, 0]), BASE)


@pytest.mark.parametrize("normalise", [True, False])
def test_copies_of_the_base_and_a_single_model_come_back_bit_by_bit(normalise: bool) -> None:
    torch.manual_seed(0)
    base, model = torch.randn(50, 40), torch.randn(50, 40)
    merge = Linear(normalise=normalise)
    assert torch.equal(merge.tensor(SLOT, base, [base] * 3, [0.3, 0.5, 0.7]), base)
    assert torch.equal(merge.tensor(SLOT, base, [model], [1.0]), model)


def test_what_cancels_is_zero() -> None:
    """A third of each, added up, would leave some 1e-16 of them."""
    models = [torch.tensor([value]) for value in (1.0, 5.0, -6.0)]
    for weight in (1, 7):
        assert Linear().tensor(SLOT, BASE[:1], models, [weight] * 3).tolist() == [0.0]


def test_order_does_not_matter() -> None:
    torch.manual_seed(0)
    base, *models = torch.randn(4, 30, 20)
    one = Linear().tensor(SLOT, base, models, [1, 2, 4])
    other = Linear().tensor(SLOT, base, models[::-1], [4, 2, 1])
    assert torch.allclose(one, other, rtol=2**-23, atol=0)


def test_the_numbers_that_explain() -> None:
    told = Linear().explain(SLOT, BASE, [A, B], [1, 1])
    assert told["norm"] == pytest.approx(math.sqrt(0.25 + 2.25)) and told["cosine"] == 0.0
    assert told["relative"] == pytest.approx(math.sqrt(2.5 / 30))
    assert Linear().explain(SLOT, BASE, [A, A], [1, 1])["cosine"] == pytest.approx(1)
    assert Linear().explain(SLOT, BASE, [A, BASE], [1, 1])["cosine"] == 0.0
    assert Linear().explain(SLOT, 0 * BASE, [0 * BASE], [1]) == {"norm": 0.0, "relative": 0.0}


def test_weights_without_a_mean_are_refused() -> None:
    for weights in ([1.0, -1.0], [0.0, 0.0], [0.1, 0.2, -0.3]):
        assert "add up to zero" in Linear().mistakes(weights)[0]
        assert Linear(normalise=False).mistakes(weights) == []
    with pytest.raises(WorkbenchError, match="add up to zero"):
        Linear().tensor(SLOT, BASE, [A, B], [1.0, -1.0])
    assert Linear().mistakes([1.0]) == [] and "at least 1 tuned" in Linear().mistakes([])[0]
