"""Multi-SLERP: the closed form by hand, its edges, and that mergekit's walk along the sphere comes to the same."""

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.multi_slerp import MultiSLERP

SLOT = Slot("model.layers.0.mlp.up_proj.weight", 0.0, 0, 2)
X, Y, Z = torch.eye(4)[:3]
BASE = torch.tensor([0.3, -0.2, 0.5, 0.1])
ZERO = torch.zeros(4)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def merged(*models: Tensor, weights: list[float] | None = None) -> list[float]:
    return MultiSLERP().tensor(SLOT, BASE, models, weights or [1] * len(models)).tolist()


def test_the_closed_form_by_hand() -> None:
    assert merged(X, Y, weights=[0.75, 0.25]) == pytest.approx([0.948683, 0.316228, 0, 0], abs=1e-6)
    assert merged(X, Y, weights=[3, 1]) == pytest.approx([0.948683, 0.316228, 0, 0], abs=1e-6), "weights count by their shares"
    third = 2 / 3**0.5
    assert merged(X, 2 * Y, 3 * Z) == pytest.approx([third, third, third, 0], abs=1e-6), "the mean direction, as long as the mean length"
    moved = MultiSLERP(on_base=True).tensor(SLOT, BASE, [BASE + X, BASE + 2 * Y, BASE + 3 * Z], [1, 1, 1]) - BASE
    assert moved.tolist() == pytest.approx([third, third, third, 0], abs=1e-6)


def test_what_it_tells() -> None:
    told = MultiSLERP().explain(SLOT, 2 * X, [X, Y], [1, 1])
    assert told == pytest.approx({"angle": 45, "norm": 1, "relative": 0.5}, abs=1e-6)
    told = MultiSLERP(on_base=True).explain(SLOT, 2 * X, [3 * X, 2 * X + 3 * Y], [1, 1])
    assert told == pytest.approx({"angle": 45, "norm": 2, "relative": 1}, abs=1e-6)
    assert MultiSLERP().explain(SLOT, ZERO, [X], [1]) == pytest.approx({"angle": 0, "norm": 1, "relative": 0})


@pytest.mark.parametrize("on_base", [False, True])
def test_equal_models_give_themselves_bit_for_bit(on_base: bool) -> None:
    base, model, merge = 1e6 * random(30, 20), random(30, 20, seed=1), MultiSLERP(on_base=on_base)
    model[0, 0] = -0.0
    for weights in ([1], [1, 1, 1], [0.1, 0.6, 3, 0.05], [3, 7, 11]):
        same = merge.tensor(SLOT, base, [model] * len(weights), weights)
        assert torch.equal(same.view(torch.int32), model.view(torch.int32))
        assert torch.equal(merge.tensor(SLOT, base, [base] * len(weights), weights), base)


def test_zeros_have_no_direction_but_count_in_the_length() -> None:
    assert merged(X, ZERO) == pytest.approx([0.5, 0, 0, 0]) and merged(ZERO, ZERO) == [0, 0, 0, 0]
    assert merged(X, Y, ZERO, weights=[1, 1, 2]) == pytest.approx([0.5**1.5, 0.5**1.5, 0, 0], abs=1e-6)
    moved = MultiSLERP(on_base=True).tensor(SLOT, BASE, [BASE + X, BASE], [1, 1]) - BASE
    assert moved.tolist() == pytest.approx([0.5, 0, 0, 0], abs=1e-6)


def test_where_directions_cancel_it_is_the_plain_mean() -> None:
    assert merged(X, -3 * X) == [-1, 0, 0, 0]
    apart = torch.tensor([-0.5, 0.75**0.5, 0, 0]), torch.tensor([-0.5, -(0.75**0.5), 0, 0])
    assert merged(2 * X, *apart) == pytest.approx([1 / 3, 0, 0, 0], abs=1e-6), "three of them too"


def mergekit(weights: list[float], models: list[Tensor]) -> Tensor:
    """Its formula with the walk along the sphere, in double precision."""
    stacked = torch.stack([model.double().flatten() for model in models])
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    norms = stacked.norm(dim=-1, keepdim=True)
    units = stacked / (norms + 1e-8)
    mean = (units * shares[:, None]).sum(0)
    mean = mean / mean.norm()
    tangents = units - (units @ mean)[:, None] * mean
    tangent = (tangents * shares[:, None]).sum(0)
    size = tangent.norm() + 1e-8
    result = mean * size.cos() + tangent * (size.sin() / size)
    return (result * (norms[:, 0] * shares).sum()).view_as(models[0])


@pytest.mark.parametrize("move", [0.05, 1.0])
def test_mergekits_walk_comes_to_the_same(move: float) -> None:
    base, weights = random(40, 30), [1.0, 0.5, 0.25]
    models = [(base + move * random(40, 30, seed=seed)) * seed for seed in (1, 2, 3)]
    ours = MultiSLERP().tensor(SLOT, base, models, weights)
    assert torch.allclose(ours, mergekit(weights, models).float(), rtol=1e-5, atol=1e-6)
    ours = MultiSLERP(on_base=True).tensor(SLOT, base, models, weights)
    expected = base + mergekit(weights, [model.double() - base for model in models])
    assert torch.allclose(ours, expected.float(), rtol=1e-5, atol=1e-6)


def test_the_last_digit_of_the_sums_is_not_seen() -> None:
    """Shares have 32 binary digits, so blocks that add up in another order make the same merge."""
    shares, _ = MultiSLERP()._shares(SLOT, random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)], [1, 2, 3])
    assert all((digits * 2**32).is_integer() for digits in shares.frexp().mantissa.tolist())


def test_weights_may_not_be_negative() -> None:
    assert MultiSLERP().mistakes([1, 0, 2]) == []
    for weights in ([1, -0.5], [0, 0]):
        assert "no weight may be below zero" in MultiSLERP().mistakes(weights)[0]
