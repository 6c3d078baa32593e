"""NuSLERP: weights and rows by hand, task vectors on the base, its edges, and what mergekit's formula gives."""

import math

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.nuslerp import NuSLERP

SLOT = Slot("model.layers.0.mlp.up_proj.weight", 0.0, 0, 2)
X, Y = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.0, 1, 0, 0])
BASE = torch.tensor([0.3, -0.2, 0.5, 0.1])
ZERO = torch.zeros(4)
ALL = [NuSLERP(on_base=on_base, per_row=per_row) for on_base in (False, True) for per_row in (False, True)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_weights_say_where_on_the_arc() -> None:
    for weights, t in (([1, 1], 0.5), ([3, 1], 0.25), ([0.2, 0.6], 0.75)):
        expected = [math.cos(t * math.pi / 2), math.sin(t * math.pi / 2), 0, 0]
        assert NuSLERP().tensor(SLOT, BASE, [X, Y], weights).tolist() == pytest.approx(expected, abs=1e-7)
        moved = NuSLERP(on_base=True).tensor(SLOT, BASE, [BASE + X, BASE + Y], weights) - BASE
        assert moved.tolist() == pytest.approx(expected, abs=1e-6)
    assert NuSLERP().tensor(SLOT, BASE, [X, Y], [1, 0]).tolist() == X.tolist()
    assert NuSLERP().explain(SLOT, BASE, [X, Y], [1, 1]) == pytest.approx({"angle": 90, "first": 0.5**0.5, "second": 0.5**0.5})


def test_a_negative_weight_goes_on_beyond_the_other_model() -> None:
    merged = NuSLERP().tensor(SLOT, BASE, [X, Y], [-1, 2])
    assert merged.tolist() == pytest.approx([math.sin(-math.pi / 2), math.sin(math.pi), 0, 0], abs=1e-7)


def test_task_vectors_keep_their_length() -> None:
    base, one, two = random(5000), random(5000, seed=1), random(5000, seed=2)
    two *= one.norm() / two.norm()
    arc = NuSLERP(on_base=True).tensor(SLOT, base, [base + one, base + two], [1, 1]) - base
    assert float(arc.norm()) == pytest.approx(float(one.norm()), rel=1e-5)
    assert float(((one + two) / 2).norm()) < 0.75 * float(one.norm()), "the mean does not"


def test_per_row_has_an_angle_for_each_and_vectors_stay_whole() -> None:
    one, two = torch.stack([X, X, 2 * X]), torch.stack([Y, X, X])
    expected = torch.stack([0.5**0.5 * (X + Y), X, 1.5 * X])
    rows = NuSLERP(per_row=True)
    assert torch.allclose(rows.tensor(SLOT, random(3, 4), [one, two], [1, 1]), expected, atol=1e-7)
    assert rows.explain(SLOT, random(3, 4), [one, two], [1, 1])["angle"] == pytest.approx(30)
    moved = NuSLERP(per_row=True, on_base=True).tensor(SLOT, BASE.repeat(3, 1), [BASE + one, BASE + two], [1, 1]) - BASE
    assert torch.allclose(moved, expected, atol=1e-6)
    assert torch.equal(rows.tensor(SLOT, BASE, [X, Y], [1, 1]), NuSLERP().tensor(SLOT, BASE, [X, Y], [1, 1]))
    deep = NuSLERP(per_row=True).tensor(SLOT, random(3, 2, 2), [one.reshape(3, 2, 2), two.reshape(3, 2, 2)], [1, 1])
    assert torch.allclose(deep.reshape(3, 4), expected, atol=1e-7)


@pytest.mark.parametrize("merge", ALL, ids=str)
def test_equal_models_give_themselves_bit_for_bit(merge: NuSLERP) -> None:
    base, model = 1e6 * random(30, 20), random(30, 20, seed=1)
    for weights in ([1, 1], [0.3, 0.6], [-1, 3]):
        assert torch.equal(merge.tensor(SLOT, base, [model, model], weights), model)
        assert torch.equal(merge.tensor(SLOT, base, [base, base], weights), base)


@pytest.mark.parametrize("merge", ALL, ids=str)
def test_what_is_zero_opposite_or_parallel_lies_on_a_straight_line(merge: NuSLERP) -> None:
    base = BASE if merge.on_base else ZERO + 0.5
    start = base if merge.on_base else ZERO
    for one, two in ((X, ZERO), (ZERO, X), (ZERO, ZERO), (X, -X), (X, 3 * X), (1e-20 * X, -1e-20 * X)):
        given = [torch.stack([start + one] * 2), torch.stack([start + two] * 2)]
        merged = merge.tensor(SLOT, torch.stack([base] * 2), given, [3, 1])
        assert torch.allclose(merged, torch.stack([start + 0.75 * one + 0.25 * two] * 2), atol=1e-7)


def test_a_tensor_next_to_nothing_has_no_angle_that_could_be_trusted() -> None:
    for seed in range(20):
        base, one, tiny = random(64, seed=seed), random(64, seed=100), random(64, seed=101) * 1e-9
        assert NuSLERP().explain(SLOT, base, [one, tiny], [1, 1])["first"] == 0.5


@pytest.mark.parametrize("merge", ALL, ids=str)
def test_the_order_does_not_matter_when_the_weights_go_along(merge: NuSLERP) -> None:
    base, one, two = random(30, 20), random(30, 20, seed=1), random(30, 20, seed=2)
    assert torch.equal(merge.tensor(SLOT, base, [one, two], [1, 3]), merge.tensor(SLOT, base, [two, one], [3, 1]))


def test_the_last_digit_of_the_sums_is_not_seen() -> None:
    """Shares have 32 binary digits, so blocks that add up in another order make the same merge."""
    told = NuSLERP().explain(SLOT, random(40, 30), [random(40, 30, seed=1), random(40, 30, seed=2)], [1, 2])
    assert all((math.frexp(told[name])[0] * 2**32).is_integer() for name in ("first", "second"))


def mergekit(weights: list[float], one: Tensor, two: Tensor, rows: bool) -> Tensor:
    """Its formula, in double precision; of task vectors if it is given those."""
    t = weights[1] / sum(weights)
    a, b = (tensor.double() if rows else tensor.double().reshape(1, -1) for tensor in (one, two))
    cosine = ((a / a.norm(dim=-1, keepdim=True)) * (b / b.norm(dim=-1, keepdim=True))).sum(-1, keepdim=True)
    angle = cosine.clamp(-1, 1).acos()
    return ((((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()).view_as(one)


@pytest.mark.parametrize("merge", ALL, ids=str)
@pytest.mark.parametrize("move", [0.01, 1.0])
def test_it_is_mergekits(merge: NuSLERP, move: float) -> None:
    base, weights = random(40, 30), [0.4, 1.2]
    one, two = base + move * random(40, 30, seed=1), base + move * random(40, 30, seed=2)
    if merge.on_base:
        expected = base.double() + mergekit(weights, one.double() - base, two.double() - base, merge.per_row)
    else:
        expected = mergekit(weights, one, two, merge.per_row)
    assert torch.allclose(merge.tensor(SLOT, base, [one, two], weights), expected.float(), rtol=1e-6, atol=1e-7)


def test_it_takes_two_models_whose_weights_do_not_cancel() -> None:
    assert NuSLERP().mistakes([1, 3]) == [] and "add up to zero" in NuSLERP().mistakes([1, -1])[0]
    assert "at least 2" in NuSLERP().mistakes([1])[0] and "at most 2" in NuSLERP().mistakes([1, 1, 1])[0]
