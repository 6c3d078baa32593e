"""SAM (arXiv:2010.01412): where it looks, whose gradient AdamW sees, and that the parameters come back to the bit."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from workbench.methods.updates.adamw import AdamW
from workbench.methods.updates.sam import SAM


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (5,))]


def curved(values: list[nn.Parameter]) -> Tensor:
    return sum((value**4 + 3 * value).sum() for value in values)


def looking(values: list[nn.Parameter], seen: list[list[Tensor]]) -> Callable[[], None]:
    """`again` for the curved loss, which keeps where it was asked."""

    def again() -> None:
        seen.append([value.detach().clone() for value in values])
        for value in values:
            value.grad = None
        curved(values).backward()

    return again


def look(knobs: SAM, values: list[nn.Parameter]) -> list[Tensor]:
    """e: how far from the parameters the second gradients were taken, after one step."""
    start, seen = [value.detach().clone() for value in values], []
    curved(values).backward()
    knobs.begin([{"params": values}]).step(1.0, looking(values, seen))
    (there,) = seen
    return [a - b for a, b in zip(there, start, strict=True)]


def gradients(values: list[nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(curved(values), values))


@pytest.mark.parametrize("rho", [0.05, 2.0])
def test_it_looks_rho_far_along_the_gradient_of_all_parameters_together(rho: float) -> None:
    values = parameters()
    whole = torch.cat([gradient.flatten() for gradient in gradients(values)])
    climbed = torch.cat([part.flatten() for part in look(SAM(rho=rho), values)])
    assert climbed.norm().item() == pytest.approx(rho, rel=1e-4)
    assert torch.allclose(climbed, rho * whole / whole.norm(), atol=1e-6)


def test_the_adaptive_form_looks_further_along_large_parameters() -> None:
    values = parameters()
    theta, g = (torch.cat([part.detach().flatten() for part in parts]) for parts in (values, gradients(values)))
    climbed = torch.cat([part.flatten() for part in look(SAM(rho=0.5, adaptive=True), values)])
    assert torch.allclose(climbed, 0.5 * theta**2 * g / (theta.abs() * g).norm(), atol=1e-6)
    assert (climbed / theta).norm().item() == pytest.approx(0.5, rel=1e-4), "ρ is a length in units of each parameter"


@pytest.mark.parametrize(("rho", "adaptive"), [(0.3, False), (0.3, True), (9.0, False)])
def test_adamw_steps_from_where_it_was_to_the_bit_with_the_gradient_from_uphill(rho: float, adaptive: bool) -> None:
    ours, theirs = parameters(), parameters()
    sam = SAM(lr=0.01, rho=rho, weight_decay=0.1, adaptive=adaptive).begin([{"params": ours}])
    adamw = AdamW(lr=0.01, weight_decay=0.1).begin([{"params": theirs}])
    for _ in range(3):
        seen: list[list[Tensor]] = []
        curved(ours).backward()
        assert sam.step(0.5, looking(ours, seen)) == {"lr": 0.005}
        uphill = gradients([nn.Parameter(value) for value in seen[0]])
        for value, gradient in zip(theirs, uphill, strict=True):
            value.grad = gradient
        adamw.step(0.5, lambda: None)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert all(value.grad is None for value in ours)


def never() -> None:
    raise AssertionError("no second pass is wanted here")


def test_without_rho_it_is_adamw_exactly_and_costs_no_second_pass() -> None:
    ours, theirs = parameters(), parameters()
    sam, adamw = SAM(rho=0.0).begin([{"params": ours}]), AdamW().begin([{"params": theirs}])
    for _ in range(3):
        for values, stepper in ((ours, sam), (theirs, adamw)):
            curved(values).backward()
            stepper.step(1.0, never)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert "second forward and backward" in SAM().costs() and SAM(rho=0.0).costs() == ""
    assert SAM(rho=0.0).bytes_per_parameter() == AdamW().bytes_per_parameter() < SAM().bytes_per_parameter()


def test_where_nothing_leads_uphill_it_is_adamws_step() -> None:
    flat = nn.Parameter(torch.ones(2, 2))
    flat.grad = torch.zeros(2, 2)
    SAM().begin([{"params": [flat]}]).step(1.0, never)
    assert torch.equal(flat, torch.ones(2, 2))
    zero = nn.Parameter(torch.zeros(2, 2))  # LoRA's B at its start
    zero.grad = torch.ones(2, 2)
    SAM(adaptive=True, lr=0.1, clip=0).begin([{"params": [zero]}]).step(1.0, never)
    assert torch.allclose(zero, torch.full((2, 2), -0.1))


def test_a_gradient_uphill_that_is_no_number_moves_nothing() -> None:
    values = parameters()
    start = [value.detach().clone() for value in values]
    stepper = SAM().begin([{"params": values}])
    curved(values).backward()

    def again() -> None:
        values[0].grad = torch.full((4, 3), float("nan"))

    assert stepper.step(1.0, again) == {"lr": 0.0}
    assert all(torch.equal(a, b) and a.grad is None for a, b in zip(values, start, strict=True)) and not stepper.state()


def test_a_second_pass_that_fails_leaves_the_parameters_as_they_were() -> None:
    values = parameters()
    start = [value.detach().clone() for value in values]
    curved(values).backward()
    with pytest.raises(AssertionError):
        SAM().begin([{"params": values}]).step(1.0, never)
    assert all(torch.equal(a, b) for a, b in zip(values, start, strict=True))


def test_a_parameter_without_gradient_stays() -> None:
    values, idle = parameters(), nn.Parameter(torch.ones(3))
    curved(values).backward()
    SAM().begin([{"params": [*values, idle]}]).step(1.0, looking(values, []))
    assert torch.equal(idle, torch.ones(3))
