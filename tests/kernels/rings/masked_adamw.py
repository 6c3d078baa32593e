"""AdamW on a few entries by Triton against float64, from the same numbers."""

import pytest
import torch
from ring import DEVICE, DTYPES, INTERPRETED, doubles, draw, far, near
from torch import Tensor
from workbench_kernels import masked_adamw as module
from workbench_kernels.masked_adamw import adamw_scatter, gather_reference, grad_gather, scatter_reference

RATES = {"lr": 3e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.1}
COUNTS = [1, 1024, 1500] + ([] if INTERPRETED else [3_000_000])
PLACES = (torch.int32, torch.int64)


def entries(count: int, of: int, kind: torch.dtype) -> Tensor:
    """Some places in a random order, each once."""
    return torch.randperm(of, generator=torch.Generator().manual_seed(count))[:count].to(DEVICE, kind)


def state(count: int, dtype: torch.dtype, kind: torch.dtype = torch.int64) -> tuple[Tensor, ...]:
    """weight, values, places, gradient, moment, square in the middle of a training."""
    values = draw(count, seed=1)
    weight, places = draw(2, count + 3, dtype=dtype), entries(count, 2 * (count + 3), kind)
    return weight, values, places, draw(count, seed=2), 0.1 * draw(count, seed=3), 0.1 * draw(count, seed=4).square()


@pytest.mark.parametrize("kind", PLACES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", COUNTS)
def test_entries_are_taken_to_the_bit(count: int, dtype: torch.dtype, kind: torch.dtype) -> None:
    grad, places = draw(2, count + 3, dtype=dtype), entries(count, 2 * (count + 3), kind)
    assert torch.equal(grad_gather(grad, places), gather_reference(grad, places))


@pytest.mark.parametrize("kind", PLACES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", COUNTS)
def test_a_step_from_the_middle_of_a_training(count: int, dtype: torch.dtype, kind: torch.dtype) -> None:
    found = state(count, dtype, kind)
    before, places = found[0].clone(), found[2]
    expected = [each if each is places else each.double() for each in found]
    adamw_scatter(*found, step=7, **RATES)
    scatter_reference(*expected, step=7, **RATES)
    for mine, other in zip(found[:2] + found[3:], expected[:2] + expected[3:], strict=True):
        near(mine, other)
    flat = found[0].view(-1)
    still = torch.ones_like(flat, dtype=torch.bool)
    still[places] = False
    assert torch.equal(flat[still], before.view(-1)[still])


def test_many_steps_stay_by_torchs_own() -> None:
    """The first is the hardest: there the corrections of both means are largest."""
    weight, values, places, *_ = state(700, torch.float32)
    moment, square, theirs = torch.zeros_like(values), torch.zeros_like(values), torch.nn.Parameter(values.clone())
    optimizer = torch.optim.AdamW([theirs], lr=3e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    for step in range(1, 9):
        theirs.grad = draw(700, seed=10 + step) * 10.0 ** (step - 6)
        adamw_scatter(weight, values, places, theirs.grad, moment, square, step=step, **RATES)
        optimizer.step()
        assert far(values, theirs.detach()) < 5e-7
    assert torch.equal(weight.view(-1)[places], values)


def test_nothing_is_read_or_written_beyond_the_ends() -> None:
    """All lie in one stretch with NaN between them; the gaps stay NaN and no number becomes one."""
    room = torch.full((5, 96), torch.nan, device=DEVICE)
    room[:, 32:64] = draw(5, 32)
    room[4].abs_()
    weight, values, gradient, moment, square = room[:, 32:64]
    places = torch.arange(31, -1, -1, device=DEVICE)
    adamw_scatter(weight, values, places, gradient, moment, square, step=2, **RATES)
    assert room[:, 32:64].isfinite().all() and room[:, :32].isnan().all() and room[:, 64:].isnan().all()
    assert torch.equal(weight.flip(0), values) and torch.equal(grad_gather(room, places + 96 + 32), values.flip(0))


def test_places_beyond_two_to_the_31() -> None:
    """A weight of 4 GiB, of which nothing but three entries is touched."""
    _, values, _, gradient, moment, square = state(3, torch.float32)
    large, places = torch.empty(2**31 + 9, dtype=torch.bfloat16, device=DEVICE), torch.tensor([2**31 + 8, 5, 2**31], device=DEVICE)
    large[places] = draw(3, dtype=torch.bfloat16, seed=5)
    assert torch.equal(grad_gather(large, places), draw(3, dtype=torch.bfloat16, seed=5).float())
    adamw_scatter(large, values, places, gradient, moment, square, step=2, **RATES)
    near(large[places], values.double())


def test_what_is_only_read_may_be_strided_and_is_not_written_into() -> None:
    weight, values, places, gradient, moment, square = state(40, torch.bfloat16)
    wide = torch.stack([gradient, gradient], 1)
    apart, theirs = torch.stack([places, places], 1), doubles(weight, values, gradient, moment, square)
    adamw_scatter(weight, values, apart[:, 0], wide[:, 0], moment, square, step=3, **RATES)
    scatter_reference(theirs[0], theirs[1], places, *theirs[2:], step=3, **RATES)
    near(values, theirs[1])
    near(weight, theirs[0])
    assert torch.equal(wide[:, 1], gradient) and torch.equal(apart[:, 1], places)
    turned, some = draw(6, 5).T, apart[:9, 0] % 30
    assert torch.equal(grad_gather(turned, torch.stack([some, some], 1)[:, 0]), gather_reference(turned, some))


def test_no_entries_change_nothing() -> None:
    weight, none = draw(3, 4), draw(0)
    before = weight.clone()
    adamw_scatter(weight, none, none.long(), none, none.clone(), none.clone(), step=1, **RATES)
    assert torch.equal(weight, before) and grad_gather(weight, none.long()).shape == (0,)


def test_a_change_is_noticed_by_autograd() -> None:
    """A weight that learns may be written into; who saved it for a backward pass before is told."""
    weight, values, places, gradient, moment, square = state(8, torch.float32)
    weight.requires_grad_()
    y = (weight * weight).sum()
    adamw_scatter(weight, values, places, gradient, moment, square, step=1, **RATES)
    assert weight.is_leaf and weight.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_torch_compile_keeps_them() -> None:
    def both(weight: Tensor, values: Tensor, places: Tensor, grad: Tensor, moment: Tensor, square: Tensor) -> None:
        adamw_scatter(weight, values, places, grad_gather(grad, places), moment, square, step=5, **RATES)

    kept = torch.compile(both, backend="aot_eager", fullgraph=True)
    one, other = state(20, torch.bfloat16), state(20, torch.bfloat16)
    grad = draw(2, 23, dtype=torch.bfloat16, seed=9)
    for run, (weight, values, places, _, moment, square) in ((kept, one), (both, other)):
        run(weight, values, places, grad, moment, square)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(module._gather, (grad, one[2]), test_utils=tests)
    torch.library.opcheck(module._scatter, (*state(20, torch.bfloat16), 0.9, 0.1, 0.9, 0.1, 0.1, 0.5, 1e-8), test_utils=tests)
