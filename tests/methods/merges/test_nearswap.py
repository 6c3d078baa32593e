"""Nearswap: near numbers are taken, far ones moved by t; what the published fraction gives; one model and two."""

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.nearswap import Nearswap

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
ZERO = torch.zeros(4)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_near_numbers_are_taken_and_far_ones_move_by_t() -> None:
    model = torch.tensor([0.25, -0.5, 2.0, -3.0])
    merge = Nearswap(t=0.5)
    assert merge.tensor(SLOT, ZERO, [model], [1]).tolist() == [0.25, -0.5, 0.5, -0.5]
    assert merge.explain(SLOT, ZERO, [model], [1]) == pytest.approx({"taken": 0.5, "moved": 1.75 / 4, "apart": 5.75 / 4})


def test_of_two_models_the_first_stands_for_the_base() -> None:
    base, one, two = random(6, 5), random(6, 5, seed=1), random(6, 5, seed=2)
    merge = Nearswap(t=0.3)
    ours = merge.tensor(SLOT, base, [one, two], [1, 1])
    assert torch.equal(ours, merge.tensor(SLOT, one, [two], [1])) and not torch.equal(ours, merge.tensor(SLOT, two, [one], [1]))
    assert merge.explain(SLOT, base, [one, two], [1, 1]) == merge.explain(SLOT, one, [two], [1])


def test_equal_models_and_a_large_t_give_the_model_bit_for_bit() -> None:
    base, model = 1e9 * random(6, 5), 1e-9 * random(6, 5, seed=1)
    model[0, 0] = -0.0
    for t in (1e-4, 10):
        assert torch.equal(Nearswap(t=t).tensor(SLOT, model, [model], [1]).view(torch.int32), model.view(torch.int32))
    near = base + 1e-9 * random(6, 5, seed=1)
    assert torch.equal(Nearswap(t=10).tensor(SLOT, near, [base], [1]), base)
    assert torch.equal(Nearswap(t=10).tensor(SLOT, torch.ones(6, 5), [model], [1]), model)


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0])
def test_it_is_the_published_fraction(t: float) -> None:
    base, model = random(40, 30), random(40, 30, seed=1)
    a, b = base.double(), model.double()
    weight = (t / (a - b).abs().clamp(min=1e-6)).clamp(0, 1)
    expected = (weight * b + (1 - weight) * a).float()
    assert torch.allclose(Nearswap(t=t).tensor(SLOT, base, [model], [1]), expected, rtol=2e-7, atol=1e-9)


def test_it_takes_one_model_or_two_and_no_weights() -> None:
    assert Nearswap().mistakes([1]) == Nearswap().mistakes([1, 1]) == [] and Nearswap.ordered
    assert "at most 2" in Nearswap().mistakes([1, 1, 1])[0] and "by its knob t" in Nearswap().mistakes([1, 2])[0]
