"""SLERP: the arc by hand, its ends and its straight lines, and that the whole's inner products suffice."""

import math

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.slerp import SLERP

SLOT = Slot("model.layers.0.mlp.up_proj.weight", 0.0, 0, 2)
X, Y = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.0, 1, 0, 0])
BASE = torch.tensor([0.3, -0.2, 0.5, 0.1])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def between(one: Tensor, two: Tensor, t: float, base: Tensor = BASE) -> Tensor:
    return SLERP(t=t).tensor(SLOT, base, [one, two], [1, 1])


@pytest.mark.parametrize("t", [0.25, 0.5, 0.9])
def test_a_right_angle_by_hand(t: float) -> None:
    expected = [math.cos(t * math.pi / 2), math.sin(t * math.pi / 2), 0, 0]
    assert between(X, Y, t).tolist() == pytest.approx(expected, abs=1e-7)
    assert between(X, 3 * Y, t).tolist() == pytest.approx([expected[0], 3 * expected[1], 0, 0], abs=1e-6), "of the tensors as they are"
    told = SLERP(t=t).explain(SLOT, BASE, [X, Y], [1, 1])
    assert told == pytest.approx({"angle": 90, "first": expected[0], "second": expected[1]}, abs=1e-7)


def test_length_stays_and_the_angle_goes_with_t() -> None:
    one, two, base = random(5000), random(5000, seed=1), random(5000, seed=2)
    two *= one.norm() / two.norm()
    whole = SLERP().explain(SLOT, base, [one, two], [1, 1])["angle"]
    for t in (0.1, 0.5, 0.8):
        merged = between(one, two, t, base)
        assert float(merged.norm()) == pytest.approx(float(one.norm()), rel=1e-6)
        angle = math.degrees(math.acos(float(merged.double() @ one.double() / merged.double().norm() / one.double().norm())))
        assert angle == pytest.approx(t * whole, rel=1e-4)


def test_the_ends_are_the_models_bit_for_bit() -> None:
    one, two, base = random(30, 20), random(30, 20, seed=1) * 1e-12, random(30, 20, seed=2)
    assert torch.equal(between(one, two, 0, base), one) and torch.equal(between(one, two, 1, base), two)
    one[0, 0] = -0.0
    assert torch.equal(between(one, one, 0.3, base).view(torch.int32), one.view(torch.int32))


def test_of_one_model_it_starts_at_the_base() -> None:
    base, model = random(6, 5), random(6, 5, seed=1)
    for t in (0.0, 0.3, 1.0):
        assert torch.equal(SLERP(t=t).tensor(SLOT, base, [model], [1]), between(base, model, t, random(6, 5, seed=2)))


def test_where_the_two_are_near_opposite_or_zero_the_line_is_straight() -> None:
    near = X + 0.03 * Y
    assert between(X, near, 0.5).tolist() == pytest.approx([1, 0.015, 0, 0], abs=1e-9)
    far = X + 0.04 * Y
    assert SLERP(t=0.5).explain(SLOT, BASE, [X, far], [1, 1])["first"] > 0.50005 and between(X, far, 0.5)[0] > 1.0001
    assert between(X, -X, 0.5).tolist() == [0, 0, 0, 0] and between(X, -X, 0.25).tolist() == [0.5, 0, 0, 0]
    zero = torch.zeros(4)
    assert between(X, zero, 0.25).tolist() == [0.75, 0, 0, 0] and between(zero, zero, 0.5).tolist() == [0, 0, 0, 0]
    assert SLERP(t=0.25).tensor(SLOT, zero, [X], [1]).tolist() == [0.25, 0, 0, 0]
    assert SLERP().explain(SLOT, BASE, [X, zero], [1, 1]) == {"angle": 0, "first": 0.5, "second": 0.5}


def test_a_tensor_next_to_nothing_has_no_angle_that_could_be_trusted() -> None:
    for seed in range(20):
        base, one, tiny = random(64, seed=seed), random(64, seed=100), random(64, seed=101) * 1e-9
        assert SLERP(t=0.5).explain(SLOT, base, [one, tiny], [1, 1])["first"] == 0.5


def mergekit(t: float, one: Tensor, two: Tensor) -> Tensor:
    """Its formula, in double precision."""
    a, b = one.double().flatten(), two.double().flatten()
    cosine = (a / a.norm()) @ (b / b.norm())
    if cosine.abs() > 0.9995:
        return ((1 - t) * a + t * b).view_as(one).float()
    angle = cosine.acos()
    return (((1 - t) * angle).sin() / angle.sin() * a + (t * angle).sin() / angle.sin() * b).view_as(one).float()


@pytest.mark.parametrize("move", [0.01, 0.1, 1.0, 10.0])
def test_it_is_mergekits(move: float) -> None:
    base = random(40, 30)
    one, two = base + move * random(40, 30, seed=1), base + move * random(40, 30, seed=2)
    assert torch.allclose(between(one, two, 0.3, base), mergekit(0.3, one, two), rtol=1e-6, atol=1e-7)
    assert torch.allclose(SLERP(t=0.3).tensor(SLOT, base, [one], [1]), mergekit(0.3, base, one), rtol=1e-6, atol=1e-7)


def test_the_last_digit_of_the_sums_is_not_seen() -> None:
    """Shares have 32 binary digits, so blocks that add up in another order make the same merge."""
    told = SLERP(t=0.3).explain(SLOT, random(40, 30), [random(40, 30, seed=1), random(40, 30, seed=2)], [1, 1])
    assert all((math.frexp(told[name])[0] * 2**32).is_integer() for name in ("first", "second"))


def test_it_takes_one_model_or_two_and_no_weights() -> None:
    assert SLERP().mistakes([1]) == SLERP().mistakes([1, 1]) == [] and SLERP.ordered
    assert "at most 2" in SLERP().mistakes([1, 1, 1])[0] and "by its knob t" in SLERP().mistakes([1, 2])[0]
