"""SPIDER: which numbers are free, what is held stays where it was to the bit, and the published step at the peak rate."""

import math

import pytest
import torch
from torch import Tensor, nn

from workbench.methods.updates.adamw import AdamW
from workbench.methods.updates.spider import SPIDER, SPIDERStepper, freedom, standing


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def published(start: Tensor, pull: Tensor) -> Tensor:
    """M number by number, as its code has it."""

    def rank(numbers: list[float]) -> list[float]:
        sizes = [abs(number) for number in numbers]
        mean = sum(sizes) / len(sizes)
        spread = math.sqrt(sum((size - mean) ** 2 for size in sizes) / (len(sizes) - 1))
        return [1 / (1 + math.exp(-(size - mean) / spread)) for size in sizes]

    base, task = rank(start.flatten().tolist()), rank(pull.flatten().tolist())
    free = [t / (b + t) if t > b else 0 for b, t in zip(base, task, strict=True)]
    mean = sum(free) / sum(own > 0 for own in free)
    return torch.tensor([min(1, own / mean) for own in free]).view_as(start)


def begun(start: Tensor, **knobs: float) -> tuple[nn.Parameter, SPIDERStepper]:
    parameter = nn.Parameter(start.clone())
    return parameter, SPIDER(**{"lr": 0.1, "clip": 0, **knobs}).begin([{"params": [parameter]}])


def test_the_freedom_of_a_number_is_the_published_one() -> None:
    start, pull = drawn(0, 8, 9), drawn(1, 8, 9)
    free = freedom(start, pull)
    assert torch.allclose(free, published(start, pull), atol=1e-6)
    assert free.min() == 0 and free.max() == 1 and 0.3 < (free > 0).float().mean() < 0.7


def test_a_step_at_the_peak_is_the_published_one_and_what_is_held_is_as_it_was() -> None:
    start = drawn(0, 8, 9)
    parameter, stepper = begun(start)
    plain = nn.Parameter(start.clone())
    adamw, pull = AdamW(lr=0.1, clip=0).begin([{"params": [plain]}]), torch.zeros(8, 9)
    for seed in range(1, 6):
        gradient = drawn(seed, 8, 9)
        plain.data = parameter.data.clone()  # AdamW goes on from where SPIDER stands
        for own, its in ((parameter, stepper), (plain, adamw)):
            own.grad = gradient.clone()
            its.step(1.0, lambda: None)
        pull += gradient
        free = published(start, pull)
        assert torch.allclose(parameter, start + free * (plain - start), atol=1e-6)
        assert torch.equal(parameter[free == 0], start[free == 0]) and (parameter != start)[free > 0].all()
        assert torch.equal(parameter[free == 1], plain[free == 1])


def test_below_the_peak_it_is_the_same_share_of_that_step_also_on_the_way_back() -> None:
    """In the second step a number that had moved is held again, and goes back half of the way."""
    places = []
    for rate in (1.0, 0.5):
        parameter, stepper = begun(torch.tensor([1.0, 0.9, 1.1, 1.0]))
        for gradient, share in (([9.0, 0.1, 0.1, 0.2], 1.0), ([-9.0, 0.1, 5.0, 0.2], rate)):
            parameter.grad = torch.tensor(gradient)
            places.append(parameter.detach().clone())
            stepper.step(share, lambda: None)
        places.append(parameter.detach().clone())
    (start, before, whole), (_, again, half) = places[:3], places[3:]
    assert torch.equal(before, again) and before[0] != start[0] and whole[0] == start[0]
    assert torch.allclose(half - before, (whole - before) / 2) and half[0] == pytest.approx(float(start[0] + before[0]) / 2)


def test_tensors_of_which_little_can_be_said() -> None:
    assert torch.equal(standing(torch.zeros(5)), torch.zeros(5)), "nothing pulls"
    assert torch.equal(standing(-torch.ones(5)), torch.full((5,), 0.5)) and standing(torch.ones(1)).tolist() == [0.5]
    assert torch.equal(freedom(torch.zeros(4), drawn(0, 4)) > 0, torch.ones(4, dtype=torch.bool)), "LoRA's B at its start is free"
    assert torch.equal(freedom(drawn(0, 4), torch.zeros(4)), torch.zeros(4))
    parameter, stepper = begun(torch.ones(6))
    parameter.grad = torch.arange(6.0)
    stepper.step(1.0, lambda: None)
    assert (parameter != 1).tolist() == [False] * 3 + [True] * 3, "a fresh norm moves where it is pulled most"


def test_numbers_that_are_new_begin_where_they_stand() -> None:
    parameter, stepper = begun(drawn(0, 1, 4))
    parameter.grad = drawn(1, 1, 4)
    stepper.step(1.0, lambda: None)
    before = stepper.state()["0.start"].clone()
    there = parameter.tolist()[0]
    parameter.data = torch.tensor([[there[2], 7.0, there[0], -3.0]])
    stepper.carry(parameter, lambda own: torch.tensor([[own[0, 2], 0, own[0, 0], 0]]))
    assert torch.equal(stepper.state()["0.start"], torch.tensor([[before[0, 2], 7.0, before[0, 0], -3.0]]))
    assert stepper.state()["0.pull"][0, 1] == 0


def test_it_takes_over_from_adamw_in_mid_run() -> None:
    parameter = nn.Parameter(drawn(0, 5))
    adamw, stepper = (method(lr=0.1).begin([{"params": [parameter]}]) for method in (AdamW, SPIDER))
    parameter.grad = drawn(1, 5)
    adamw.step(1.0, lambda: None)
    stepper.load_state(adamw.state())
    here = parameter.detach().clone()
    parameter.grad = drawn(2, 5)
    stepper.step(1.0, lambda: None)
    assert torch.equal(stepper.state()["0.start"], here)
