"""RMSNorm by Triton against float64, from the same numbers."""

import pytest
import torch
from ring import DEVICE, DTYPES, INTERPRETED, doubles, draw, gradients, near
from torch import Tensor
from workbench_kernels import rms_norm as module
from workbench_kernels.rms_norm import reference, rms_norm

EPS = 1e-6
SHAPES = [(7, 5), (13, 64), (5, 200), (3, 7, 33)] + ([] if INTERPRETED else [(4097, 896), (2, 8192)])


def both(x: Tensor, w: Tensor, dy: Tensor, gemma: bool) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    found = gradients(lambda *given: rms_norm(*given, EPS, gemma), (x, w), dy)
    return found, gradients(lambda *given: reference(*given, EPS, gemma), doubles(x, w), dy.double())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("gemma", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...], gemma: bool, dtype: torch.dtype) -> None:
    x, w, dy = draw(*shape, dtype=dtype), 1 + 0.1 * draw(shape[-1], dtype=dtype), draw(*shape, dtype=dtype, seed=1)
    found, expected = both(x, w, dy, gemma)
    for one, other, rounds in zip(found, expected, (2, 1.5, 2), strict=True):
        near(one, other, rounds)


def test_the_weights_gradient_is_summed_in_float32() -> None:
    """300 rows that each add a little: summed in bfloat16 it would stand still."""
    x, dy = torch.ones(300, 16, device=DEVICE, dtype=torch.bfloat16), torch.full((300, 16), 1.0, device=DEVICE, dtype=torch.bfloat16)
    _, _, dw = gradients(lambda *given: rms_norm(*given, 0.0), (x, torch.ones_like(x[0])), dy)
    assert (dw == 300).all()


def test_a_row_of_zeros_is_finite_and_nothing_is_read_beyond_the_row() -> None:
    around = torch.full((6, 48), torch.nan, device=DEVICE)
    around[:, :33] = draw(6, 33)
    around[2, :33] = 0
    found, expected = both(around[:, :33], 1 + 0.1 * draw(33), draw(6, 33, seed=1), gemma=False)
    assert found[1][2].isfinite().all()
    for one, other in zip(found, expected, strict=True):
        near(one, other)


def test_rows_of_any_distance_backward_too() -> None:
    """x and what comes in, each with its own distance between rows and numbers around that are none."""
    plain, w = [draw(5, 33), draw(5, 33, seed=1)], 1 + 0.1 * draw(33)
    x, dy = (torch.full((5, 40 + 9 * place), torch.nan, device=DEVICE)[:, 2:35].copy_(one) for place, one in enumerate(plain))
    own = [x.requires_grad_(), w.clone().requires_grad_()]
    y = rms_norm(*own, EPS)
    for one, other in zip((y.detach(), *torch.autograd.grad(y, own, dy)), both(plain[0], w, plain[1], gemma=False)[1], strict=True):
        near(one, other)


def test_no_input_is_written_into_and_a_graph_serves_twice() -> None:
    x, w, dy = draw(5, 24).requires_grad_(), draw(24).requires_grad_(), draw(5, 24, seed=1)
    before = [tensor.detach().clone() for tensor in (x, w, dy)]
    y = rms_norm(x, w, EPS)
    first = torch.autograd.grad(y, (x, w), dy, retain_graph=True)
    second = torch.autograd.grad(y, (x, w), dy)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert all(torch.equal(*pair) for pair in zip((x, w, dy), before, strict=True))


def test_a_weight_that_does_not_learn_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    needed, backward = list[bool](), module._backward
    monkeypatch.setattr(module, "_backward", lambda *given: needed.append(given[-1]) or backward(*given))
    rms_norm(draw(3, 8).requires_grad_(), draw(8), EPS).sum().backward()
    assert needed == [False]


@pytest.mark.parametrize("shape", [(0, 16), (2, 0, 16), (2, 3, 0)], ids=str)
def test_nothing_gives_nothing(shape: tuple[int, ...]) -> None:
    x = draw(*shape).requires_grad_()
    y = rms_norm(x, draw(shape[-1]), EPS)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape


def test_torch_compile_keeps_it() -> None:
    """In one piece, with the same numbers; and its schemas and shapes are what they say."""
    x, w = draw(4, 32).requires_grad_(), draw(32).requires_grad_()
    kept = torch.compile(lambda *given: rms_norm(*given, EPS), backend="aot_eager", fullgraph=True)
    for one, other in zip(
        gradients(kept, (x, w), draw(4, 32)), gradients(lambda *given: rms_norm(*given, EPS), (x, w), draw(4, 32)), strict=True
    ):
        assert torch.equal(one, other)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(module._forward, (draw(4, 32), draw(32), EPS, True), test_utils=tests)
    torch.library.opcheck(module._backward, (draw(4, 32), draw(4, 32), draw(32), draw(4).abs(), False, True), test_utils=tests)
