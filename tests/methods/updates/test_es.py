"""Evolution strategies: towards what did better than the rest, whatever the scale of the loss."""

import math

import torch

from workbench.materials.perturbing import directions
from workbench.methods.updates.es import ES


def moved(knobs: ES, value: torch.Tensor, loss: object, steps: int = 1) -> tuple[torch.Tensor, dict[str, float]]:
    parameter = torch.nn.Parameter(value.clone())
    stepper = knobs.begin([{"params": [parameter]}])
    for _ in range(steps):
        told = stepper.step(1.0, lambda: float(loss(parameter.detach())))
    return parameter.detach(), told


def test_one_step_by_hand() -> None:
    value = torch.zeros(2, 2, dtype=torch.float64)
    knobs = ES(lr=0.5, sigma=0.1, population=4)
    drawn = [next(directions([{"params": [torch.nn.Parameter(value)]}], n))[2] for n in range(4)]
    losses = torch.tensor([float((0.1 * own).sum()) for own in drawn], dtype=torch.float64)
    scores = -(losses - losses.mean()) / losses.std(correction=0)
    wanted = value + 0.5 / 4 * sum(score * own for score, own in zip(scores, drawn, strict=True))
    after, told = moved(knobs, value, lambda parameter: parameter.sum())
    assert torch.allclose(after, wanted, atol=1e-9)
    assert abs(told["loss"] - float(losses.mean())) < 1e-9 and abs(told["loss_spread"] - float(losses.std(correction=0))) < 1e-9


def test_the_scale_of_the_loss_does_not_matter() -> None:
    value = torch.randn(3, 3, dtype=torch.float64)
    small, _ = moved(ES(), value, lambda parameter: (parameter**2).sum(), steps=3)
    large, _ = moved(ES(), value, lambda parameter: 1000 * (parameter**2).sum() + 7, steps=3)
    assert torch.allclose(small, large, atol=1e-9) and not torch.equal(small, value)


def test_it_comes_down_a_bowl() -> None:
    value = torch.full((2, 3), 2.0)
    after, told = moved(ES(lr=0.2, sigma=0.05), value, lambda parameter: (parameter**2).sum(), steps=80)
    assert told["loss"] < 2 < float((value**2).sum()) and float(after.abs().max()) < 1.5


def test_where_all_do_alike_or_one_is_no_number_nothing_moves() -> None:
    value = torch.ones(2, 2)
    after, told = moved(ES(), value, lambda parameter: 3.0)
    assert torch.allclose(after, value, atol=1e-5) and told["loss"] == 3.0
    after, told = moved(ES(), value, lambda parameter: math.nan)
    assert torch.allclose(after, value, atol=1e-5) and math.isnan(told["loss"]) and told["lr"] == 0


def test_half_the_rate_is_half_the_step_and_only_matrices_decay() -> None:
    def after(rate: float, value: torch.Tensor, loss: object, **knobs: float) -> tuple[torch.Tensor, dict[str, float]]:
        parameter = torch.nn.Parameter(value.clone())
        told = ES(lr=0.1, **knobs).begin([{"params": [parameter]}]).step(rate, lambda: float(loss(parameter.detach())))
        return parameter.detach(), told

    value = torch.randn(3, 3, dtype=torch.float64)
    (whole, _), (half, told) = (after(rate, value, torch.sum) for rate in (1.0, 0.5))
    assert torch.allclose(half - value, (whole - value) / 2, atol=1e-9) and told["lr"] == 0.05
    decayed, _ = after(0.5, value, lambda parameter: 3.0, weight_decay=0.5)
    assert torch.allclose(decayed, value * (1 - 0.5 * 0.1 * 0.5), atol=1e-9)
    vector, _ = after(0.5, torch.ones(3, dtype=torch.float64), lambda parameter: 3.0, weight_decay=0.5)
    assert torch.allclose(vector, torch.ones(3, dtype=torch.float64), atol=1e-9)


def test_no_change_is_tried_twice() -> None:
    seen = list[torch.Tensor]()
    for seed in (0, 1):
        moved(ES(population=16, sigma=1.0, seed=seed), torch.zeros(2, dtype=torch.float64), lambda own: seen.append(own.clone()) or 0.0, 20)
    assert len(seen) == 2 * 20 * 16 and torch.pdist(torch.stack(seen)).min() > 1e-6
