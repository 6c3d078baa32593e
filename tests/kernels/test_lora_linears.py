"""lora_linears: several layers of one x against float64 and against the layers one by one; what it reads, keeps and gives up."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, grad
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from workbench_kernels import road
from workbench_kernels.lora_linear import lora_linear
from workbench_kernels.lora_linears import Layer, Together, lora_linears, reference

M, K = 18, 24
SIZES = {  # N and r of each
    "q, k, v": ((40, 4), (16, 4), (16, 4)), "gate, up": ((56, 8), (56, 8)), "ranks": ((40, 2), (16, 8), (24, 1)), "one": ((40, 4),),
}  # fmt: skip
F32, BF16 = torch.float32, torch.bfloat16
ROUNDING = 1.7e-3  # ‖cast(x) − x‖ / ‖x‖ for bfloat16; u, the products and each sum are rounded once
FORMATS = {"float32": (F32, F32), "bfloat16": (BF16, BF16), "bfloat16, adapter float32": (BF16, F32)}  # of x and W, of A and B
formats = pytest.mark.parametrize("base, adapter", FORMATS.values(), ids=FORMATS)
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def drawn(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64).to(dtype)


def given(size: Sequence[tuple[int, int]], base: torch.dtype = F32, adapter: torch.dtype = F32) -> tuple[Tensor, list[Layer], list[Tensor]]:
    """x, layers of which each has a scale of its own and the first a bias, and what comes back to them. x, A and B learn."""
    layers = [
        Layer(
            drawn(n, K, dtype=base, seed=place),
            drawn(r, K, dtype=adapter, seed=place).requires_grad_(),
            drawn(n, r, dtype=adapter, seed=place).requires_grad_(),
            0.5 + place,
            None if place else drawn(n, dtype=base),
        )
        for place, (n, r) in enumerate(size)
    ]
    return drawn(2, 9, K, dtype=base).requires_grad_(), layers, [drawn(2, 9, n, dtype=base, seed=9 + n) for n, _ in size]


def learnt(x: Tensor, layers: list[Layer]) -> list[Tensor]:
    return [x, *(layer.a for layer in layers), *(layer.b for layer in layers)]


def far(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def formula(x: Tensor, layers: list[Layer], dys: list[Tensor]) -> list[Tensor]:
    """Every y and all gradients, from the products W + sBA that no layer here forms."""
    rows, ups = x.detach().double().flatten(0, -2), [dy.double().flatten(0, -2) for dy in dys]
    each = [[one.detach().double() for one in (layer.weight, layer.a, layer.b)] for layer in layers]
    wholes = [weight + layer.scale * b @ a for layer, (weight, a, b) in zip(layers, each, strict=True)]
    ys = [rows @ whole.T + (0 if layer.bias is None else layer.bias.double()) for layer, whole in zip(layers, wholes, strict=True)]
    slopes = [up.T @ rows for up in ups]
    da = [layer.scale * b.T @ slope for layer, (_, _, b), slope in zip(layers, each, slopes, strict=True)]
    db = [layer.scale * slope @ a.T for layer, (_, a, _), slope in zip(layers, each, slopes, strict=True)]
    return [*ys, sum(up @ whole for up, whole in zip(ups, wholes, strict=True)), *da, *db]


@sizes
@formats
@pytest.mark.parametrize("op", [lora_linears, reference])
def test_values_and_gradients_are_those_of_the_formula(
    op: Callable[..., tuple[Tensor, ...]], base: torch.dtype, adapter: torch.dtype, size: Sequence[tuple[int, int]]
) -> None:
    x, layers, dys = given(size, base, adapter)
    ys = op(x, layers)
    found = [*ys, *grad(ys, learnt(x, layers), dys)]
    assert [one.dtype for one in found] == [base] * (len(size) + 1) + [adapter] * 2 * len(size)
    assert [y.shape for y in ys] == [(2, 9, n) for n, _ in size]
    for one, expected in zip(found, formula(x, layers, dys), strict=True):
        assert far(one.reshape(expected.shape), expected) < (1e-6 if base == F32 else (4 + 2 * len(size)) ** 0.5 * ROUNDING)


def test_gradcheck_of_its_own_backward_pass() -> None:
    shapes = (5, 3), (2, 3), (1, 3), (4, 2), (6, 1)
    learn = [drawn(*shape, dtype=torch.float64, seed=place).requires_grad_() for place, shape in enumerate(shapes)]
    frozen = drawn(4, 3, dtype=torch.float64), drawn(6, 3, dtype=torch.float64), drawn(4, dtype=torch.float64), None
    assert torch.autograd.gradcheck(lambda x, *factors: Together.apply(x, (0.7, 1.3), *factors, *frozen), learn)


@pytest.mark.parametrize("place", range(7), ids=["x", "A of q", "A of k", "A of v", "B of q", "B of k", "B of v"])
def test_whatever_learns_alone_gets_what_it_gets_beside_the_others(place: int) -> None:
    x, layers, dys = given(SIZES["q, k, v"])
    every = grad(lora_linears(x, layers), learnt(x, layers), dys)
    for number, one in enumerate(learnt(x, layers)):
        one.requires_grad_(number == place)
    ys = lora_linears(x, layers)
    learns = [(y, dy) for y, dy in zip(ys, dys, strict=True) if y.requires_grad]
    found = grad([y for y, _ in learns], learnt(x, layers)[place], [dy for _, dy in learns])
    assert torch.equal(found[0], every[place])


def test_what_nobody_used_gives_nothing_back() -> None:
    """Only q is gone on with; and the gradients of the rest are 0, not missing."""
    x, layers, dys = given(SIZES["q, k, v"])
    found = grad(lora_linears(x, layers)[0], learnt(x, layers), dys[0])
    alone = grad(lora_linear(x, *layers[0]), [x, layers[0].a, layers[0].b], dys[0])
    assert all(far(found[place], expected) < 1e-6 for place, expected in zip((0, 1, 4), alone, strict=True))
    assert not any(found[place].any() for place in (2, 3, 5, 6))


class Reads(TorchDispatchMode):
    """How many products read x, and how many sums are made of two tensors of its size."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x, self.products, self.sums = x, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in ("aten::mm", "aten::addmm", "aten::linear"):
            self.products += any(isinstance(one, Tensor) and one.data_ptr() == self.x.data_ptr() for one in args)
        self.sums += name in ("aten::add", "aten::add_") and args[0].numel() == self.x.numel()
        return func(*args, **(kwargs or {}))


def test_x_is_read_once_for_all_updates_and_dx_is_summed_by_the_products() -> None:
    """Beside the three products with W: one product forward and one backward, where layers apart need three each and two sums."""
    x, layers, dys = given(SIZES["q, k, v"])
    for op, forward, backward, sums in ((lora_linears, 4, 1, 0), (lambda x, layers: [lora_linear(x, *one) for one in layers], 6, 3, 2)):
        with Reads(x) as found:
            ys = op(x, layers)
            assert found.products == forward
            found.products = 0
            grad(ys, learnt(x, layers), dys)
        assert found.products == backward and found.sums == sums


@pytest.mark.parametrize("learn_a, numbers", [(True, M * (K + 12)), (False, M * 12)])
def test_it_keeps_x_once_and_u_and_never_y(learn_a: bool, numbers: int) -> None:
    """Beside the weights, and A in the format of the products."""
    x, layers, _ = given(SIZES["q, k, v"], BF16, F32)
    for layer in layers:
        layer.a.requires_grad_(learn_a)
    held = list[Tensor]()
    with saved_tensors_hooks(lambda tensor: held.append(tensor) or tensor, lambda tensor: tensor):
        lora_linears(x, layers)
    weights = {one.data_ptr() for layer in layers for one in (layer.weight, layer.b)}
    assert sum(one.numel() for one in held if one.data_ptr() not in weights) == numbers + 12 * K


@pytest.mark.parametrize("base, adapter", [(F32, F32), (BF16, F32), (F32, BF16)])
def test_under_autocast_it_is_what_torchs_linear_is(base: torch.dtype, adapter: torch.dtype) -> None:
    """x is float32 beside whatever weights; the gradients come back in their tensors' formats, backward inside or outside."""
    _, layers, _ = given(SIZES["q, k, v"], base, adapter)
    x, dys = drawn(2, 9, K).requires_grad_(), given(SIZES["q, k, v"], BF16)[2]
    results = []
    for op in (lora_linears, reference):
        with torch.autocast("cpu", dtype=BF16):
            ys = op(x, layers)
            inside = grad(ys, learnt(x, layers), dys, retain_graph=True)
        results.append([*ys, *inside, *grad(ys, learnt(x, layers), dys)])
    assert all(y.dtype == BF16 for y in results[0][:3])
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype and far(one, other) < 4 * ROUNDING


def test_a_backward_pass_inside_autocast_changes_no_format() -> None:
    x, layers, dys = given(SIZES["q, k, v"])
    ys = lora_linears(x, layers)
    outside = grad(ys, learnt(x, layers), dys, retain_graph=True)
    with torch.autocast("cpu", dtype=BF16):
        within = grad(ys, learnt(x, layers), dys)
    assert all(torch.equal(*pair) for pair in zip(outside, within, strict=True))


def together(ys: tuple[Tensor, ...]) -> bool:
    """Whether one node made them; a view stands between."""
    return {y.grad_fn.next_functions[0][0].name() for y in ys} == {"TogetherBackward"}


def test_what_cannot_share_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight or a bias that learns, A's of two formats, and where only plain torch may run; with the same numbers."""
    x, layers, dys = given(SIZES["q, k, v"])
    expected = grad(lora_linears(x, layers), learnt(x, layers), dys)
    assert together(lora_linears(x, layers))
    weight, bias, narrow = layers[1].weight.clone().requires_grad_(), layers[0].bias.clone().requires_grad_(), layers[2].a.to(BF16)
    for place, change in ((1, {"weight": weight}), (0, {"bias": bias}), (2, {"a": narrow})):
        own = [layer._replace(**change) if number == place else layer for number, layer in enumerate(layers)]
        ys = lora_linears(x, own)
        assert not together(ys)
        assert far(grad(ys, x, dys, retain_graph=True)[0], expected[0]) < 2e-2
        for one in change.values():
            assert not one.is_leaf or grad(ys, one, dys)[0].any()
    with road.only("reference"):
        assert not together(lora_linears(x, layers))
    wide = [Layer(*(one.double() if isinstance(one, Tensor) else one for one in layer)) for layer in layers]
    assert not together(lora_linears(x.double(), wide))


@pytest.mark.parametrize("field", ["weight", "a", "b", "bias"])
def test_a_forward_mode_derivative_takes_plain_torch(field: str) -> None:
    x, layers, _ = given(SIZES["q, k, v"])
    x, layers = x.detach(), [Layer(*(one.detach() if isinstance(one, Tensor) else one for one in layer)) for layer in layers]
    old = layers[0]._asdict()[field]
    step = drawn(*old.shape, seed=3)
    with forward_ad.dual_level():
        own = [layers[0]._replace(**{field: forward_ad.make_dual(old, step)}), *layers[1:]]
        moved, truth = (forward_ad.unpack_dual(op(x, own)[0]).tangent for op in (lora_linears, reference))
        torch.testing.assert_close(moved, truth)
    with forward_ad.dual_level():
        along = drawn(2, 9, K, seed=4)
        moved = [forward_ad.unpack_dual(y).tangent for y in lora_linears(forward_ad.make_dual(x, along), layers)]
    for layer, one in zip(layers, moved, strict=True):
        torch.testing.assert_close(one, linear(along, layer.weight + layer.scale * layer.b @ layer.a), rtol=1e-4, atol=1e-4)


def test_its_graph_serves_twice_nothing_is_written_into_and_no_second_derivative_is_wrong() -> None:
    """Strides of any kind come in and come back."""
    x, layers, dys = given(SIZES["q, k, v"])
    own, frozen = learnt(x, layers), [one for layer in layers for one in (layer.weight, layer.bias) if one is not None]
    before = [one.detach().clone() for one in (*own, *frozen, *dys)]
    ys = lora_linears(x.transpose(0, 1), layers)
    ups = [dy.permute(2, 1, 0).contiguous().permute(1, 2, 0) for dy in dys]
    first, second = (grad(ys, own, ups, retain_graph=True) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert all(torch.equal(*pair) for pair in zip((*own, *frozen, *dys), before, strict=True))
    straight = grad(lora_linears(x, layers), own, dys)
    assert all(far(one, other) < 1e-6 for one, other in zip(first, straight, strict=True))
    (slope,) = grad(ys[0].square().sum(), layers[0].a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
    ys[1].add_(1)  # a residual stream is added to in place


def test_no_rows() -> None:
    x, layers, _ = given(SIZES["q, k, v"])
    none = x.detach()[:0].requires_grad_()
    ys = lora_linears(none, layers)
    slopes = grad([y.sum() for y in ys], learnt(none, layers))
    assert [y.shape for y in ys] == [(0, 9, n) for n, _ in SIZES["q, k, v"]] and not any(slope.any() for slope in slopes)


@formats
def test_torch_compile_keeps_it(base: torch.dtype, adapter: torch.dtype) -> None:
    x, layers, dys = given(SIZES["q, k, v"], base, adapter)
    ys, others = lora_linears(x, layers), torch.compile(lora_linears, backend="aot_eager", fullgraph=True)(x, layers)
    pairs = zip((*ys, *grad(ys, learnt(x, layers), dys)), (*others, *grad(others, learnt(x, layers), dys)), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
