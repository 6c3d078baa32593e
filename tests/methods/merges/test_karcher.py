"""Karcher mean: two models are SLERP, the middle is where the arcs balance, its edges, and what mergekit's search over tensors gives."""

import math

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.karcher import Karcher
from workbench.methods.merges.slerp import SLERP

SLOT = Slot("model.layers.0.mlp.up_proj.weight", 0.0, 0, 2)
X, Y, Z = torch.eye(4)[:3]
BASE = torch.tensor([0.3, -0.2, 0.5, 0.1])
ZERO = torch.zeros(4)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def merged(*models: Tensor, weights: list[float] | None = None) -> list[float]:
    return Karcher().tensor(SLOT, BASE, models, weights or [1] * len(models)).tolist()


@pytest.mark.parametrize("t", [0.1, 0.25, 0.5])
def test_two_models_of_one_length_are_slerp(t: float) -> None:
    assert merged(X, Y, weights=[1 - t, t]) == pytest.approx([math.cos(t * math.pi / 2), math.sin(t * math.pi / 2), 0, 0], abs=1e-7)
    base, one, two = random(40, 30), random(40, 30, seed=1), random(40, 30, seed=2)
    two *= one.norm() / two.norm()
    ours = Karcher().tensor(SLOT, base, [one, two], [3 * (1 - t), 3 * t])
    assert torch.allclose(ours, SLERP(t=t).tensor(SLOT, base, [one, two], [1, 1]), atol=1e-6)


def test_it_is_as_long_as_the_models_are_in_the_mean() -> None:
    third = 2 / 3**0.5
    assert merged(X, 2 * Y, 3 * Z) == pytest.approx([third, third, third, 0], abs=1e-6)
    told = Karcher().explain(SLOT, 4 * X, [X, 2 * Y, 3 * Z], [1, 1, 1])
    assert told == pytest.approx({"angle": math.degrees(math.acos(3**-0.5)), "norm": 2, "relative": 0.5}, abs=1e-6)


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 2, 3, 0.5]])
def test_the_arcs_to_the_models_balance(weights: list[float]) -> None:
    base, models = random(200), [random(200, seed=seed) * seed for seed in (1, 2, 3, 4)]
    middle = Karcher().tensor(SLOT, base, models, weights).double()
    middle /= middle.norm()
    pull = torch.zeros(200, dtype=torch.float64)
    for model, weight in zip(models, weights, strict=True):
        unit = model.double() / model.double().norm()
        cosine = unit @ middle
        pull += weight * cosine.acos() / (1 - cosine**2).sqrt() * (unit - cosine * middle)
    assert float(pull.norm()) < 1e-6


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [0.1, 0.6, 3, 0.05], [3, 7, 11], [1, 2, 3, 4, 5, 6, 7]])
def test_equal_models_give_themselves_bit_for_bit(weights: list[float]) -> None:
    base, model = 1e3 * random(30, 20), random(30, 20, seed=1)
    model[0, 0] = -0.0
    merged = Karcher().tensor(SLOT, base, [model] * len(weights), weights)
    assert torch.equal(merged.view(torch.int32), model.view(torch.int32))
    assert torch.equal(Karcher().tensor(SLOT, base, [base] * len(weights), weights), base)


def test_the_order_does_not_matter() -> None:
    base, models = random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)]
    one = Karcher().tensor(SLOT, base, models, [1, 2, 3])
    assert torch.allclose(one, Karcher().tensor(SLOT, base, models[::-1], [3, 2, 1]), rtol=2**-22, atol=1e-9)


def test_zeros_are_left_out_of_the_direction_but_count_in_the_length() -> None:
    assert merged(X, ZERO) == pytest.approx([0.5, 0, 0, 0]) and merged(ZERO, ZERO) == [0, 0, 0, 0]
    assert merged(X, Y, ZERO, weights=[1, 1, 2]) == pytest.approx([0.5**1.5, 0.5**1.5, 0, 0], abs=1e-6)


def test_opposite_models_have_the_plain_mean() -> None:
    assert merged(X, -3 * X) == [-1, 0, 0, 0] and merged(-3 * X, X) == [-1, 0, 0, 0]
    lopsided = merged(X, -X, weights=[3, 1])
    assert lopsided == pytest.approx([1, 0, 0, 0], abs=1e-6), "no arc leads to the antipode, so it pulls nowhere"


def mergekit(models: list[Tensor], steps: int = 10) -> Tensor:
    """Its search over the tensors themselves, in double precision and equal weights."""
    norms = [model.double().norm() for model in models]
    units = [model.double() / norm for model, norm in zip(models, norms, strict=True)]
    middle = sum(units) / len(units)
    middle = middle / middle.norm()
    for _ in range(steps):
        turn = torch.zeros_like(middle)
        for unit in units:
            cosine = (unit * middle).sum().clamp(-1, 1)
            angle = cosine.acos()
            if angle >= 1e-5:
                turn += angle / angle.sin() * (unit - cosine * middle) / len(units)
        size = turn.norm()
        if size < 1e-5:
            break
        middle = size.cos() * middle + size.sin() * turn / size
        middle = middle / middle.norm()
    return middle * sum(norms) / len(norms)


@pytest.mark.parametrize("move", [0.05, 1.0])
def test_it_is_mergekits(move: float) -> None:
    base = random(40, 30)
    models = [(base + move * random(40, 30, seed=seed)) * seed for seed in (1, 2, 3)]
    ours = Karcher().tensor(SLOT, base, models, [1, 1, 1])
    theirs = mergekit(models)
    assert float((ours - theirs).norm() / theirs.norm()) < 2e-5, "as near as it lets its own search come"


def test_the_last_digit_of_the_sums_is_not_seen() -> None:
    """Shares have 32 binary digits, so blocks that add up in another order make the same merge."""
    shares, _ = Karcher()._shares(SLOT, random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)], [1, 2, 3])
    assert all((digits * 2**32).is_integer() for digits in shares.frexp().mantissa.tolist())


def test_weights_may_not_be_negative() -> None:
    assert Karcher().mistakes([1, 0, 2]) == []
    for weights in ([1, -0.5], [0, 0]):
        assert "no weight may be below zero" in Karcher().mistakes(weights)[0]
