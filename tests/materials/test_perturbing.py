"""Random directions that are drawn again: the same each time, others for another number, and back to where it was."""

import pytest
import torch

from workbench.materials.perturbing import Counting, directions, shift, slope


def groups() -> list[dict]:
    torch.manual_seed(0)
    return [{"params": [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5))]}]


HELD = groups()


def drawn(seed: int) -> torch.Tensor:
    return torch.cat([direction.flatten() for *_, direction in directions(HELD, seed)])


def test_a_direction_is_its_number_and_normal() -> None:
    state = torch.get_rng_state()
    assert torch.equal(drawn(3), drawn(3)) and not torch.equal(drawn(3), drawn(4))
    assert torch.equal(torch.get_rng_state(), state), "the run's own chance is not touched"
    many = torch.stack([drawn(seed) for seed in range(2000)])
    assert abs(float(many.mean())) < 0.02 and abs(float(many.std()) - 1) < 0.02
    assert not torch.equal(drawn(3)[:5], drawn(3)[12:]), "each parameter has numbers of its own"
    apart = [{"params": [parameter]} for parameter in HELD[0]["params"]]
    assert torch.equal(torch.cat([own.flatten() for *_, own in directions(apart, 3)]), drawn(3)), "in whichever groups they are"


def test_there_and_back_is_where_it_was_to_a_rounding() -> None:
    held = groups()
    before = [parameter.detach().clone() for parameter in held[0]["params"]]
    shift(held, 7, 0.01)
    assert not torch.equal(held[0]["params"][0], before[0])
    shift(held, 7, -0.01)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(held[0]["params"], before, strict=True))


def test_the_slope_of_a_line_is_its_product_with_the_direction() -> None:
    held = groups()
    weights = [torch.randn_like(parameter, dtype=torch.float64) for parameter in held[0]["params"]]

    def loss() -> float:
        return sum(float((weight * parameter.detach()).sum()) for weight, parameter in zip(weights, held[0]["params"], strict=True))

    wanted = sum(float((weight * direction).sum()) for weight, (*_, direction) in zip(weights, directions(held, 5), strict=True))
    there = loss()
    found, mean = slope(held, 5, 1e-2, loss)
    assert found == pytest.approx(wanted, rel=1e-3) and mean == pytest.approx(there, abs=1e-4)


def test_matrices_decay_and_another_stepper_goes_on_counting() -> None:
    class Still(Counting):
        def step(self, rate, again):
            self.taken += 1
            return {}

    one, other = Still(groups(), 0.1, 0.5), Still(groups(), 0.1, 0.5)
    assert [group["weight_decay"] for group in one.groups] == [0.5, 0.0]
    one.step(1.0, lambda: 0.0)
    other.inherit(one)
    assert other.taken == 1 and other.state() == {"taken": torch.tensor(1)}
