"""Rotary positions by Triton, with and without the norms of the heads, against float64 from the same numbers."""

from collections.abc import Sequence

import pytest
import torch
from ring import DEVICE, DTYPES, INTERPRETED, doubles, draw, near
from torch import Tensor
from workbench_kernels import qk_rope as module
from workbench_kernels.qk_rope import qk_rope, reference

EPS = 1e-6
SHAPES = [(2, 2, 9, 2, 16, 16), (1, 5, 3, 1, 20, 12), (1, 2, 2, 2, 48, 16)]  # B, T, heads of q and of k, D, R
if not INTERPRETED:
    SHAPES += [(2, 1027, 14, 2, 64, 64), (1, 2048, 32, 8, 128, 128), (1, 333, 4, 1, 256, 256), (2, 517, 24, 8, 128, 96)]


def angles(batch: int, time: int, width: int, dtype: torch.dtype = torch.float32, factor: float = 1.3) -> list[Tensor]:
    """cos and sin of any angles, with a factor as YaRN has one."""
    angle = draw(batch, time, width // 2, scale=10.0)
    return [(factor * torch.cat((half, half), -1)).to(dtype) for half in (angle.cos(), angle.sin())]


def given(batch: int, time: int, hq: int, hk: int, d: int, dtype: torch.dtype, norms: bool) -> tuple[list[Tensor], list[Tensor]]:
    """q, k and the weights, if there are norms; and what comes in for the two results."""
    weights = [1 + 0.1 * draw(d, dtype=dtype, seed=seed) for seed in (5, 6)] if norms else []
    heads, upstream = ([draw(batch, time, h, d, dtype=dtype, seed=seed + h) for h in (hq, hk)] for seed in (1, 50))
    return [*heads, *weights], upstream


def results(op, inputs: Sequence[Tensor], turn: Sequence[Tensor], upstream: Sequence[Tensor], gemma: bool = False) -> tuple[Tensor, ...]:
    """Both results and the gradient of every input."""
    own = [tensor.detach().requires_grad_() for tensor in inputs]
    y = op(*own[:2], *turn, *own[2:], eps=EPS, gemma=gemma)
    return *(one.detach() for one in y), *torch.autograd.grad(y, own, upstream)


def exact(inputs: Sequence[Tensor], turn: Sequence[Tensor], upstream: Sequence[Tensor], gemma: bool = False) -> tuple[Tensor, ...]:
    return results(reference, doubles(*inputs), doubles(*turn), doubles(*upstream), gemma)


def same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("norm", [None, "llama", "gemma"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...], norm: str | None, dtype: torch.dtype) -> None:
    *sizes, width = shape
    inputs, upstream = given(*sizes, dtype, norms=norm is not None)
    turn = angles(*sizes[:2], width, dtype)
    found, expected = (way(inputs, turn, upstream, norm == "gemma") for way in (lambda *all: results(qk_rope, *all), exact))
    twice = 2.5 if norm == "llama" else 1.5
    for one, other, rounds in zip(found, expected, (twice, twice, 1.5, 1.5, 3, 3), strict=False):
        near(one, other, rounds)
    assert len(found) == len(expected) == 2 + len(inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cos_and_sin_as_they_may_come(dtype: torch.dtype) -> None:
    """Of one row for all, of every row, one row shown to all without a copy, not side by side, and in float32 beside bfloat16."""
    inputs, upstream = given(2, 2, 2, 1, 16, dtype, norms=True)
    one = angles(1, 2, 8)
    expected = results(qk_rope, inputs, [x.repeat(2, 1, 1) for x in one], upstream)
    for turn in (one, [x.expand(2, -1, -1) for x in one], [x.mT.contiguous().mT for x in one], [one[0], one[1].expand(2, -1, -1)]):
        same(results(qk_rope, inputs, turn, upstream), expected)
    for mine, theirs in zip(expected, exact(inputs, one, upstream), strict=True):
        near(mine, theirs, 3)


@pytest.mark.parametrize("norms", [False, True])
def test_heads_and_gradients_are_read_where_they_lie(norms: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """q and k out of one projection, q's heads apart, with numbers around that are none; k's gradient as attention hands it back, heads
    before tokens. So no stride of q is one of k."""
    inputs, upstream = given(2, 3, 3, 2, 16, torch.float32, norms)
    around = torch.full((2, 3, 120), torch.nan, device=DEVICE)
    q, k = around[..., 8:68].unflatten(-1, (3, 20))[..., :16], around[..., 72:104].unflatten(-1, (2, 16))
    q.copy_(inputs[0]), k.copy_(inputs[1])
    heads_first = [upstream[0], upstream[1].transpose(1, 2).contiguous().transpose(1, 2)]
    turn, places, name = angles(2, 3, 12), list[int](), "_backward" if norms else "_forward"
    op = vars(module)[name]
    monkeypatch.setattr(module, name, lambda *all: places.extend(x.data_ptr() for x in all[: 4 if norms else 2]) or op(*all))
    same(results(qk_rope, [q, k, *inputs[2:]], turn, heads_first), results(qk_rope, inputs, turn, upstream))
    there = [x.data_ptr() for x in (*heads_first, q, k)] if norms else [x.data_ptr() for x in (q, k, *heads_first)]
    assert places[:4] == there


def test_numbers_that_lie_apart_and_one_gradient_for_all() -> None:
    inputs, _ = given(1, 3, 2, 1, 8, torch.float32, norms=True)
    apart, turn = [x.mT.contiguous().mT if x.dim() == 4 else x.repeat_interleave(2)[::2] for x in inputs], angles(1, 3, 8)
    own = [x.detach().requires_grad_() for x in apart]
    y = qk_rope(*own[:2], *turn, *own[2:], eps=EPS)
    found = torch.autograd.grad(y[0].sum() + y[1].sum(), own)
    for one, other in zip(found, exact(inputs, turn, [torch.ones_like(x) for x in y])[2:], strict=True):
        near(one, other)


def test_no_angle_beyond_the_last_token_is_read() -> None:
    """Five tokens, two to a program; what lies behind the angles is no number, and would make none of the sums for the weights."""
    inputs, upstream = given(1, 5, 2, 1, 16, torch.float32, norms=True)
    turn = angles(1, 5, 16)
    beyond = [torch.cat((x, torch.full_like(x, torch.nan)))[:1] for x in turn]
    same(results(qk_rope, inputs, beyond, upstream), results(qk_rope, inputs, turn, upstream))


def test_turning_back_undoes_turning_and_the_rest_is_copied() -> None:
    """Angles without a factor: the gradient of what was turned is what it was; and what does not turn keeps every bit."""
    (q, k), _ = given(1, 3, 2, 1, 16, torch.float32, norms=False)
    turn = angles(1, 3, 12, factor=1.0)
    y = qk_rope(q, k, *turn)
    _, _, *back = results(qk_rope, (q, k), turn, y)
    for one, other, turned in zip(back, (q, k), y, strict=True):
        near(one, other)
        assert torch.equal(turned[..., 12:], other[..., 12:]) and not torch.equal(turned[..., :12], other[..., :12])


def test_the_weights_gradients_are_summed_in_float32() -> None:
    """320 heads of q and 280 of k that each add 1: a sum in bfloat16 would stand still at 256. ε is 0, and some lanes have no head."""
    q, k = (torch.ones(1, 40, heads, 16, device=DEVICE, dtype=torch.bfloat16) for heads in (8, 7))
    cos, sin, weight = torch.ones_like(q[:, :, 0]), torch.zeros_like(q[:, :, 0]), torch.ones_like(q[0, 0, 0])
    found = results(lambda *all, **_: qk_rope(*all), (q, k, weight, weight), (cos, sin), (q, k))
    assert (found[4] == 320).all() and (found[5] == 280).all()


def test_llamas_norm_is_rounded_before_its_weight() -> None:
    """5^(−1/2) = 0.4472136 is 0.4472656 in float16; 41 times that is 18.3379, which becomes 18.34375.
    Gemma rounds once: 18.3358, 18.328125."""
    ones = torch.ones(1, 1, 1, 2, device=DEVICE, dtype=torch.float16)
    cos, sin, upstream, weight = ones[0], 0 * ones[0], 41 * ones, 41 * ones[0, 0, 0]
    for gemma, expected in ((False, 18.34375), (True, 18.328125)):
        w = weight - 1 if gemma else weight
        found = results(
            lambda *all, **kind: qk_rope(*all, **kind | {"eps": 4.0}), (ones, ones, w, w), (cos, sin), (upstream, upstream), gemma
        )
        assert all((found[place] == expected).all() for place in (0, 1, 4, 5))


def test_what_does_not_learn_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that stand still are not summed for, and without norms neither q nor k is kept."""
    (q, k, wq, wk), _ = given(1, 2, 1, 1, 8, torch.float32, norms=True)
    turn, needed, backward = angles(1, 2, 8), list[bool](), module._backward
    monkeypatch.setattr(module, "_backward", lambda *all: needed.append(all[-1]) or backward(*all))
    qk_rope(q.requires_grad_(), k, *turn, wq, wk, EPS)[0].sum().backward()
    qk_rope(q, k, *turn, wq, wk.requires_grad_(), EPS)[1].sum().backward()
    assert needed == [False, True] and wq.grad is None and wk.grad.isfinite().all()
    kept = list[int]()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.data_ptr()) or tensor, lambda tensor: tensor):
        qk_rope(q, k.requires_grad_(), *turn)
    assert sorted(kept) == sorted(x.data_ptr() for x in turn)


def test_a_head_of_zeros_is_finite() -> None:
    (q, k, *weights), upstream = given(1, 2, 2, 1, 8, torch.float32, norms=True)
    q[0, 1, 1] = 0
    assert all(found.isfinite().all() for found in results(qk_rope, (q, k, *weights), angles(1, 2, 8), upstream))


def test_tokens_that_lie_beyond_two_to_the_31() -> None:
    """A buffer of 4 GiB, of which nothing but the heads is touched: 3 tokens, 2³⁰ + 16 numbers apart."""
    (q, k), _ = given(1, 3, 2, 1, 16, torch.float32, norms=False)
    apart, turn = 2**30 + 16, angles(1, 3, 16)
    far = torch.empty(2 * apart + 32, dtype=torch.bfloat16, device=DEVICE).as_strided((1, 3, 2, 16), (apart, apart, 16, 1))
    far.copy_(q)
    same(qk_rope(far, k.bfloat16(), *turn), qk_rope(q.bfloat16(), k.bfloat16(), *turn))


@pytest.mark.parametrize("norms", [False, True])
def test_no_input_is_written_into_and_a_graph_serves_twice(norms: bool) -> None:
    """Not the gradients either; and the sums for the weights are alike to the bit."""
    inputs, upstream = given(1, 4, 2, 1, 8, torch.float32, norms)
    turn = angles(1, 4, 8)
    before = [tensor.clone() for tensor in (*inputs, *upstream, *turn)]
    own = [tensor.detach().requires_grad_() for tensor in inputs]
    y = qk_rope(*own[:2], *turn, *own[2:], eps=EPS)
    same(torch.autograd.grad(y, own, upstream, retain_graph=True), torch.autograd.grad(y, own, upstream))
    same((*inputs, *upstream, *turn), before)


def test_no_tokens_give_no_tokens() -> None:
    (q, k, *weights), upstream = given(0, 3, 2, 1, 8, torch.float32, norms=True)
    found = results(qk_rope, (q, k, *weights), angles(1, 3, 8), upstream)
    assert [x.shape for x in found[:4]] == [q.shape, k.shape, q.shape, k.shape] and not found[4].any()


@pytest.mark.parametrize("norms", [False, True])
def test_torch_compile_keeps_it(norms: bool) -> None:
    """In one piece, with the same numbers; and its schemas and shapes are what they say."""
    inputs, upstream = given(1, 2, 2, 1, 8, torch.float32, norms)
    turn = angles(1, 2, 8)
    kept = torch.compile(qk_rope, backend="aot_eager", fullgraph=True)
    same(results(kept, inputs, turn, upstream), results(qk_rope, inputs, turn, upstream))
    tests, weights = ("test_schema", "test_faketensor"), inputs[2:] or (None, None)
    torch.library.opcheck(module._forward, (*inputs[:2], *turn, *weights, EPS, True, not norms), test_utils=tests)
    if norms:
        for need_dw in (False, True):
            torch.library.opcheck(module._backward, (*upstream, *inputs[:2], *turn, *weights, EPS, False, need_dw), test_utils=tests)
