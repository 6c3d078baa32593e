"""MeZO (arXiv:2305.17333): on the average the gradient, along one direction at a time, from losses alone."""

import math

import pytest
import torch

from workbench.materials.perturbing import directions
from workbench.methods.updates.mezo import MeZO


def moved(knobs: MeZO, value: torch.Tensor, loss: object, steps: int = 1, rate: float = 1.0) -> tuple[torch.Tensor, dict[str, float]]:
    parameter = torch.nn.Parameter(value.clone())
    stepper = knobs.begin([{"params": [parameter]}])
    for _ in range(steps):
        told = stepper.step(rate, lambda: float(loss(parameter.detach())))
    return parameter.detach(), told


def test_a_step_goes_against_the_direction_by_its_slope() -> None:
    value, weight = torch.ones(3, 2, dtype=torch.float64), torch.tensor([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]], dtype=torch.float64)
    after, told = moved(MeZO(lr=0.1), value, lambda parameter: (weight * parameter).sum())
    ((_, _, direction),) = directions([{"params": [torch.nn.Parameter(value)]}], 0)
    slope = float((weight * direction).sum())
    assert torch.allclose(after, value - 0.1 * slope * direction, atol=1e-9)
    assert told == pytest.approx({"lr": 0.1, "loss": float((weight * value).sum()), "slope": slope})


def test_the_mean_over_many_directions_is_the_gradient() -> None:
    value = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
    curve = torch.tensor([[2.0, 1.0, -3.0]], dtype=torch.float64)
    steps = [moved(MeZO(lr=1.0, seed=seed, directions=16), value, lambda own: (curve * own**2).sum() / 2)[0] - value for seed in range(400)]
    assert torch.allclose(-torch.stack(steps).mean(0), curve * value, atol=0.15)


def test_where_the_loss_is_flat_nothing_moves() -> None:
    value = torch.randn(4, 4)
    after, _ = moved(MeZO(lr=1.0), value, lambda parameter: 3.0, steps=20)
    assert torch.allclose(after, value, atol=1e-6)  # a rounding a step


def test_it_comes_down_a_bowl_and_only_matrices_decay() -> None:
    value = torch.full((2, 3), 2.0)
    after, told = moved(MeZO(lr=0.02), value, lambda parameter: (parameter**2).sum(), steps=400)
    assert told["loss"] < 0.1 and float(after.abs().max()) < 0.3
    flat, _ = moved(MeZO(lr=0.1, weight_decay=0.5), value, lambda parameter: 0.0)
    assert torch.allclose(flat, value * (1 - 0.1 * 0.5), atol=1e-6)
    half, told = moved(MeZO(lr=0.1, weight_decay=0.5), value, lambda parameter: 0.0, rate=0.5)
    assert torch.allclose(half, value * (1 - 0.05 * 0.5), atol=1e-6) and told["lr"] == 0.05
    vector, _ = moved(MeZO(lr=0.1, weight_decay=0.5), torch.ones(3), lambda parameter: 0.0)
    assert torch.allclose(vector, torch.ones(3), atol=1e-6)


def test_a_loss_that_is_no_number_moves_nothing_and_is_told() -> None:
    value = torch.ones(2, 2)
    after, told = moved(MeZO(), value, lambda parameter: math.nan)
    assert torch.allclose(after, value, atol=1e-6) and math.isnan(told["loss"]) and told["lr"] == 0


def test_half_the_rate_is_half_the_step_and_the_loss_is_the_mean_of_all_readings() -> None:
    value, weight = torch.ones(3, 2, dtype=torch.float64), torch.tensor([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]], dtype=torch.float64)
    whole, told = moved(MeZO(lr=0.1, directions=3), value, lambda parameter: (weight * parameter).sum() + 7)
    half, _ = moved(MeZO(lr=0.1, directions=3), value, lambda parameter: (weight * parameter).sum() + 7, rate=0.5)
    assert torch.allclose(half - value, (whole - value) / 2, atol=1e-9)
    assert told["loss"] == pytest.approx(float((weight * value).sum()) + 7)
    ((_, _, direction),) = directions([{"params": [torch.nn.Parameter(value)]}], 0)
    assert told["slope"] == pytest.approx(float((weight * direction).sum())), "the first one's"


def test_no_direction_comes_twice() -> None:
    """Seen from the loss alone: where it is flat, each two readings lie to either side along a direction of its own."""
    seen = list[torch.Tensor]()
    for seed in (0, 1):
        knobs = MeZO(directions=16, epsilon=1.0, seed=seed)
        moved(knobs, torch.zeros(2, dtype=torch.float64), lambda parameter: seen.append(parameter.clone()) or 0.0, steps=20)
    directions_ = torch.stack(seen[::2])
    assert len(directions_) == 2 * 20 * 16 and torch.pdist(directions_).min() > 1e-6
