"""SwiGLU and GeGLU by Triton against float64, from the same numbers."""

from collections.abc import Callable

import pytest
import torch
from ring import DEVICE, DTYPES, INTERPRETED, doubles, draw, gradients, near
from torch import Tensor
from workbench_kernels import swiglu as module
from workbench_kernels.parts import Launch
from workbench_kernels.swiglu import geglu, reference, swiglu

OPS = pytest.mark.parametrize("op", [swiglu, geglu], ids=lambda op: op.__name__)
SHAPES = [(203,), (41, 5), (3, 1100), (2, 3, 33)] + ([] if INTERPRETED else [(4097, 4864), (3, 5, 14336)])


def exact(op: Callable[[Tensor, Tensor], Tensor], gate: Tensor, up: Tensor, dh: Tensor) -> tuple[Tensor, ...]:
    return gradients(lambda *given: reference(*given, gelu=op is geglu), doubles(gate, up), dh.double())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@OPS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...], op: Callable, dtype: torch.dtype) -> None:
    gate, up, dh = draw(*shape, dtype=dtype, scale=3), draw(*shape, dtype=dtype, seed=1), draw(*shape, dtype=dtype, seed=2)
    for one, other, rounds in zip(gradients(op, (gate, up), dh), exact(op, gate, up, dh), (2.5, 1.5, 2.5), strict=True):
        near(one, other, rounds)


@OPS
def test_each_number_keeps_its_digits_and_the_far_ends_are_finite(op: Callable) -> None:
    """Both tails one by one, where a σ got from a tanh has lost its digits; and gates whose exponential or cube is infinite."""
    gate = torch.cat((torch.linspace(-6, 6, 61), torch.tensor([-200.0, 200, -1e4, 1e4, -3e38, 3e38]))).to(DEVICE)
    one = torch.ones_like(gate)
    found, expected = gradients(op, (gate, one), one), exact(op, gate, one, one)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine[:61].double(), theirs[:61], rtol=2e-5, atol=1e-9)
        assert mine.isfinite().all()
    ends = torch.tensor([0.0, 200, 0, 1e4, 0, 3e38], device=DEVICE)
    assert torch.equal(found[0][61:], ends) and torch.equal(found[1][61:], ends.sign())


def test_the_activation_is_rounded_before_the_product() -> None:
    """silu(1) = 0.7310586 is 0.7309570 in float16; 5 times that is 3.65479, which becomes 3.654297.
    Rounded once, 3.65529 would become 3.65625."""
    one, five = (torch.full((1,), number, dtype=torch.float16, device=DEVICE) for number in (1.0, 5.0))
    h, _, du = gradients(swiglu, (one, five), five)
    assert h.item() == du.item() == 3.654296875


@OPS
def test_what_is_no_number_stays_none(op: Callable) -> None:
    """A run that has diverged shows it."""
    gate = torch.tensor([torch.nan, 1.0], device=DEVICE)
    assert all(found.isnan().tolist() == [True, False] for found in gradients(op, (gate, torch.ones_like(gate)), torch.ones_like(gate)))


def test_the_halves_of_one_projection_are_read_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phi3 has one: its rows are twice as long as a half's. What lies around is no number, and nothing is copied."""
    around = torch.full((2, 3, 80), torch.nan, device=DEVICE)
    around[..., 1:34], around[..., 40:73] = draw(2, 3, 33), draw(2, 3, 33, seed=1)
    gate, up, dh = around[..., 1:34], around[..., 40:73], draw(2, 3, 33, seed=2)
    places, forward = list[int](), module._forward
    monkeypatch.setattr(module, "_forward", lambda *given: places.extend(x.data_ptr() for x in given[:2]) or forward(*given))
    near(swiglu(gate, up), reference(gate.double(), up.double()))
    assert places == [gate.data_ptr(), up.data_ptr()]
    for one, other in zip(gradients(swiglu, (gate, up), dh), exact(swiglu, gate, up, dh), strict=True):
        near(one, other)


def test_it_starts_as_was_measured_for_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16 where it begins with 64: more programs, the same numbers."""
    gate, up, dh = (draw(3, 37, seed=seed) for seed in range(3))
    expected, asked = gradients(swiglu, (gate, up), dh), list[tuple]()

    def measured(kernel: str, on: torch.device, begins: Launch, *of: object) -> Launch:
        asked.append((kernel, on.type, begins.tiles["BLOCK"], *of))
        return Launch(warps=1, tiles={"BLOCK": 16})

    monkeypatch.setattr(module, "tuned", measured)
    assert all(torch.equal(*pair) for pair in zip(gradients(swiglu, (gate, up), dh), expected, strict=True))
    assert asked == [("glu", DEVICE, 64, 37), ("glu_backward", DEVICE, 64, 37)]


def test_rows_of_any_distance_backward_too() -> None:
    """Gate, up and what comes in, each with its own distance between rows and numbers around that are none."""
    plain = [draw(5, 33, seed=seed) for seed in range(3)]
    apart = [torch.full((5, 40 + 9 * place), torch.nan, device=DEVICE)[:, 2:35].copy_(one) for place, one in enumerate(plain)]
    gate, up, dh = (one.requires_grad_(place < 2) for place, one in enumerate(apart))
    h = swiglu(gate, up)
    for one, other in zip((h.detach(), *torch.autograd.grad(h, (gate, up), dh)), exact(swiglu, *plain), strict=True):
        near(one, other)


@OPS
def test_columns_that_lie_apart_and_one_gradient_for_all(op: Callable) -> None:
    """Rows written column by column, and the gradient of a sum, which is one number in memory."""
    gate, up = draw(5, 3).t().requires_grad_(), draw(5, 3, seed=1).t().requires_grad_()
    near(op(gate, up), reference(gate.double(), up.double(), op is geglu))
    found = torch.autograd.grad(op(gate, up).sum(), (gate, up))
    expected = exact(op, gate, up, torch.ones_like(gate))[1:]
    for one, other in zip(found, expected, strict=True):
        near(one, other)


def test_rows_that_begin_beyond_two_to_the_31() -> None:
    """A buffer of 4 GiB, of which nothing but the rows is touched: 3 rows, 2³⁰ + 16 numbers apart."""
    apart = 2**30 + 16
    gate = torch.empty(2 * apart + 16, dtype=torch.bfloat16, device=DEVICE).as_strided((3, 16), (apart, 1))
    gate.copy_(draw(3, 16))
    up = draw(3, 16, dtype=torch.bfloat16, seed=1)
    near(swiglu(gate, up), reference(*doubles(gate, up)), 2.5)


@OPS
def test_no_input_is_written_into_and_a_graph_serves_twice(op: Callable) -> None:
    """Not the gradient either: it may be another op's too."""
    gate, up, dh = draw(5, 24).requires_grad_(), draw(5, 24, seed=1).requires_grad_(), draw(5, 24, seed=2)
    before = [tensor.detach().clone() for tensor in (gate, up, dh)]
    h = op(gate, up)
    first = torch.autograd.grad(h, (gate, up), dh, retain_graph=True)
    second = torch.autograd.grad(h, (gate, up), dh)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert all(torch.equal(*pair) for pair in zip((gate, up, dh), before, strict=True))


def test_only_the_two_inputs_are_kept() -> None:
    kept, gate, up = list[int](), draw(5, 24).requires_grad_(), draw(5, 24).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.data_ptr()) or tensor, lambda tensor: tensor):
        swiglu(gate, up)
    assert sorted(kept) == sorted((gate.data_ptr(), up.data_ptr()))


@pytest.mark.parametrize("shape", [(0, 16), (3, 0)])
def test_nothing_gives_nothing(shape: tuple[int, int]) -> None:
    gate, up = draw(*shape).requires_grad_(), draw(*shape).requires_grad_()
    h = swiglu(gate, up)
    h.sum().backward()
    assert h.shape == gate.grad.shape == up.grad.shape == shape


@OPS
def test_torch_compile_keeps_it(op: Callable) -> None:
    """In one piece, with the same numbers; and its schemas and shapes are what they say."""
    gate, up, dh = draw(4, 32).requires_grad_(), draw(4, 32, seed=1).requires_grad_(), draw(4, 32, seed=2)
    kept = torch.compile(op, backend="aot_eager", fullgraph=True)
    for one, other in zip(gradients(kept, (gate, up), dh), gradients(op, (gate, up), dh), strict=True):
        assert torch.equal(one, other)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(module._forward, (gate.detach(), up.detach(), op is geglu), test_utils=tests)
    torch.library.opcheck(module._backward, (dh, gate.detach(), up.detach(), op is geglu), test_utils=tests)
