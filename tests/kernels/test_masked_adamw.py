"""masked_adamw: steps worked by hand, torch's own AdamW over many of them, and what Region training computes. The kernels: `rings/`."""

import math

import pytest
import torch
from torch import Tensor, nn
from workbench_kernels.masked_adamw import adamw_scatter, grad_gather

from workbench.materials.region import Part
from workbench.materials.regions import Blocks, Columns, Elements, Region, Rows

RATES = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8}


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def zeros(values: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(values.detach()), torch.zeros_like(values.detach())


def test_two_steps_worked_by_hand() -> None:
    """g = 2 and then −1, from w = 1: m = 0.2, 0.08 and v = 0.04, 0.0496 where β₁ = 0.9, β₂ = 0.99; η = 0.1, λ = 0.5, ε = 0.5."""
    weight, values, places = torch.zeros(3, dtype=torch.float64), torch.ones(1, dtype=torch.float64), torch.tensor([2])
    moment, square = zeros(values)
    for step, gradient in ((1, 2.0), (2, -1.0)):
        given = torch.tensor([gradient], dtype=torch.float64)
        adamw_scatter(weight, values, places, given, moment, square, lr=0.1, beta1=0.9, beta2=0.99, eps=0.5, decay=0.5, step=step)
    first = 0.95 * 1 - 0.1 * 2.0 / (2.0 + 0.5)  # m / (1 − β₁) = 2, √(v / (1 − β₂)) = 2
    second = 0.95 * first - 0.1 * (0.08 / 0.19) / (math.sqrt(0.0496 / 0.0199) + 0.5)
    assert values.item() == pytest.approx(second, abs=1e-14) and weight.tolist() == [0, 0, values.item()]
    assert moment.item() == pytest.approx(0.08) and square.item() == pytest.approx(0.0496)


@pytest.mark.parametrize("form", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_torchs_adamw(form: dict[str, bool], decay: float) -> None:
    values, theirs = drawn(1000), nn.Parameter(drawn(1000))
    moment, square = zeros(values)
    optimizer = torch.optim.AdamW([theirs], lr=1.0, betas=(0.9, 0.99), eps=1e-8, weight_decay=decay, **form)
    places = torch.randperm(5000, generator=torch.Generator().manual_seed(1))[:1000]
    weight = torch.zeros(50, 100)
    for step in range(1, 31):
        gradient, lr = drawn(1000, seed=step) * 10.0 ** (step % 5 - 3), 0.01 / step
        adamw_scatter(weight, values, places, gradient, moment, square, lr=lr, decay=decay, step=step, **RATES)
        optimizer.param_groups[0]["lr"], theirs.grad = lr, gradient.clone()
        optimizer.step()
    held = optimizer.state[theirs]
    for found, expected in ((values, theirs.detach()), (moment, held["exp_avg"]), (square, held["exp_avg_sq"])):
        torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-7)
    assert torch.equal(weight.flatten()[places], values) and weight.count_nonzero() == 1000


REGIONS = [
    Rows(torch.tensor([0, 5])),
    Columns(torch.tensor([1, 4, 7])),
    Elements(torch.tensor([0, 17, 47])),
    Blocks(torch.tensor([0, 3]), 2),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("region", REGIONS, ids=lambda region: type(region).__name__)
def test_it_is_what_training_a_region_computes(region: Region, dtype: torch.dtype) -> None:
    """Twenty steps of a part with torch's fused AdamW, beside the two ops on its places; after each the weights agree."""
    part = Part(nn.Parameter(drawn(6, 8, dtype=dtype)), region)
    optimizer = torch.optim.AdamW([part.values], lr=3e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    weight = part.weight.detach().clone()
    places = region.flat(weight.shape).int()
    values = weight.view(-1)[places].float()
    moment, square = zeros(values)
    for step in range(1, 21):
        whole = drawn(6, 8, seed=step, dtype=dtype)
        (part.weight * whole).sum().backward()
        gradient = grad_gather(whole, places)
        assert torch.equal(gradient, part.values.grad.flatten())
        optimizer.step()
        optimizer.zero_grad()
        part.put()
        adamw_scatter(weight, values, places, gradient, moment, square, lr=3e-3, decay=0.1, step=step, **RATES)
        torch.testing.assert_close(values, part.values.detach().flatten(), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(weight, part.weight.detach(), rtol=1e-6 if dtype == torch.float32 else 2**-8, atol=1e-7)


def test_parameters_that_learn_may_be_written_into() -> None:
    weight, values = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(1))
    adamw_scatter(weight, values, torch.tensor([3]), torch.ones(1), *zeros(values), lr=0.5, decay=0.0, step=1, **RATES)
    assert weight.flatten().tolist() == [0, 0, 0, 0.5] and weight.is_leaf and values.is_leaf


def test_small_steps_are_kept_where_the_weight_has_no_room_for_them() -> None:
    weight, places, values = torch.ones(4, dtype=torch.bfloat16), torch.tensor([3]), torch.ones(1)
    moment, square = zeros(values)
    for step in range(1, 101):  # each step of a constant gradient is η long
        adamw_scatter(weight, values, places, -torch.ones(1), moment, square, lr=1e-4, decay=0.0, step=step, **RATES)
    assert values.item() == pytest.approx(1.01, abs=1e-5) and weight.tolist() == [1, 1, 1, torch.tensor(1.01).bfloat16().item()]


def test_a_gradient_of_any_shape_and_format_is_taken_by_its_flat_places() -> None:
    grad = torch.arange(24.0).view(2, 3, 4)
    assert grad_gather(grad.half(), torch.tensor([23, 0, 7], dtype=torch.int32)).tolist() == [23, 0, 7]
    turned = grad.transpose(0, 2)
    assert grad_gather(turned, torch.tensor([1])).item() == turned[0, 0, 1].item() == 12
    assert grad_gather(grad.bfloat16(), torch.tensor([5])).dtype == torch.float32
    assert grad_gather(grad, torch.empty(0, dtype=torch.int64)).shape == (0,)


def test_what_cannot_be_written_into_in_one_piece_is_refused() -> None:
    """A copy would be stepped, and the weight stand still."""
    weight, places, gradient = torch.ones(3, 2), torch.tensor([1, 4]), torch.ones(2)
    whole = [weight, *(torch.ones(2) for _ in range(3))]
    for place, apart in enumerate([weight.T, *(torch.ones(2, 2)[:, 0] for _ in range(3))]):
        written, values, moment, square = (apart if place == own else one for own, one in enumerate(whole))
        with pytest.raises(ValueError, match="contiguous"):
            adamw_scatter(written, values, places, gradient, moment, square, lr=0.1, decay=0.0, step=1, **RATES)
