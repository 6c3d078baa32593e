"""lora_linear: the reference against float64 and peft's own layer; what the op keeps and gives up."""

from collections.abc import Callable

import pytest
import torch
from peft.tuners.lora.config import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd import forward_ad, grad
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import dropout
from workbench_kernels import road
from workbench_kernels.lora_linear import Added, lora_linear, reference

K, N, R, SCALE = 24, 40, 4, 2.0
F32, BF16 = torch.float32, torch.bfloat16
ROUNDING = 1.7e-3  # ‖cast(x) − x‖ / ‖x‖ for bfloat16; A, B, u, the first product and y are each rounded once
FORMATS = {"float32": (F32, F32), "bfloat16": (BF16, BF16), "bfloat16, adapter float32": (BF16, F32)}  # of x and W, of A and B
formats = pytest.mark.parametrize("base, adapter", FORMATS.values(), ids=FORMATS)


def drawn(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64).to(dtype)


def given(base: torch.dtype, adapter: torch.dtype) -> list[Tensor]:
    """x, W, A, B and bias; all of them learn."""
    tensors = [
        drawn(2, 9, K, dtype=base),
        drawn(N, K, dtype=base),
        drawn(R, K, dtype=adapter),
        drawn(N, R, dtype=adapter),
        drawn(N, dtype=base),
    ]
    return [tensor.requires_grad_() for tensor in tensors]


def far(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def formula(x: Tensor, weight: Tensor, a: Tensor, b: Tensor, bias: Tensor, dy: Tensor) -> list[Tensor]:
    """y and all gradients, from the product W + sBA that no layer here forms."""
    x, weight, a, b, bias, dy = (
        one.detach().double().flatten(0, -2) if one.dim() > 1 else one.double() for one in (x, weight, a, b, bias, dy)
    )
    whole = weight + SCALE * b @ a
    slope = dy.T @ x
    return [x @ whole.T + bias, dy @ whole, slope, SCALE * b.T @ slope, SCALE * slope @ a.T, dy.sum(0)]


@formats
@pytest.mark.parametrize("op", [lora_linear, reference])
def test_values_and_gradients_are_those_of_the_formula(op: Callable[..., Tensor], base: torch.dtype, adapter: torch.dtype) -> None:
    x, weight, a, b, bias = inputs = given(base, adapter)
    dy = drawn(2, 9, N, dtype=base, seed=1)
    y = op(x, weight, a, b, SCALE, bias)
    found = [y, *grad(y, inputs, dy)]
    assert [one.dtype for one in found] == [base, *(one.dtype for one in inputs)]
    for one, expected in zip(found, formula(*inputs, dy), strict=True):
        assert far(one.reshape(expected.shape), expected) < (1e-6 if base == F32 else 5**0.5 * ROUNDING)


def pefts(weight: Tensor, a: Tensor, b: Tensor, bias: Tensor | None, p: float) -> Linear:
    """peft's layer over these very tensors."""
    base = nn.Linear(K, N, bias=bias is not None)
    config = LoraConfig(r=R, lora_alpha=int(SCALE * R), lora_dropout=p)
    layer = Linear(base, "default", config, r=R, lora_alpha=int(SCALE * R), lora_dropout=p)
    for module, name, tensor in (
        (base, "weight", weight), (base, "bias", bias), (layer.lora_A["default"], "weight", a), (layer.lora_B["default"], "weight", b)
    ):  # fmt: skip
        if tensor is not None:
            module.register_parameter(name, nn.Parameter(tensor.detach().clone()))
    return layer


@formats
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("biased", [False, True])
def test_it_is_what_peft_computes(base: torch.dtype, adapter: torch.dtype, biased: bool, p: float) -> None:
    """The reference to the bit, the op but for the roundings of each, with the dropout drawn outside."""
    x, weight, a, b, bias = given(base, adapter)
    bias = bias if biased else None
    layer, dy = pefts(weight, a, b, bias, p), drawn(2, 9, N, dtype=base, seed=1)
    learn = [layer.base_layer.weight, layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    learn += [layer.base_layer.bias] if biased else []
    torch.manual_seed(0)
    y = layer(x)
    theirs = [y, *grad(y, [x, *learn], dy)]
    for op, most in ((reference, 0.0), (lora_linear, 1e-6 if base == F32 else 3 * ROUNDING)):
        torch.manual_seed(0)
        dropped = dropout(x.to(adapter), p) if p else None
        y = op(x, weight, a, b, SCALE, bias, dropped if dropped is None or op is reference else dropped.to(base))
        ours = [y, *grad(y, [x, weight, a, b, *([bias] if biased else [])], dy)]
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == other.dtype and far(one, other) <= most


@pytest.mark.parametrize("learn", [(1,), (2,), (3,), (0,), (2, 3), (0, 2, 3), (5,)], ids=str)
def test_each_gradient_stands_alone(learn: tuple[int, ...]) -> None:
    """Whatever learns, it gets what it gets when all learn: a frozen W, a first layer whose x needs none, an A that is frozen."""
    inputs = [*given(F32, F32), drawn(2, 9, K, seed=2).requires_grad_()]
    dy = drawn(2, 9, N, seed=1)

    def run(tensors: list[Tensor]) -> Tensor:
        x, weight, a, b, bias, dropped = tensors
        return lora_linear(x, weight, a, b, SCALE, bias, dropped)

    every = grad(run(inputs), inputs, dy)
    some = [one.detach().requires_grad_(place in learn) for place, one in enumerate(inputs)]
    for place, found in zip(learn, grad(run(some), [some[place] for place in learn], dy), strict=True):
        assert torch.equal(found, every[place])


def test_gradcheck_of_its_own_backward_pass() -> None:
    shapes = (5, 3), (4, 3), (2, 3), (4, 2), (4,), (5, 3)
    x, weight, a, b, bias, dropped = (drawn(*shape, dtype=torch.float64, seed=place).requires_grad_() for place, shape in enumerate(shapes))
    assert torch.autograd.gradcheck(lambda *given: Added.apply(*given[:4], 0.7, *given[4:]), (x, weight, a, b, bias, dropped))
    assert torch.autograd.gradcheck(lambda *given: Added.apply(*given, 0.7, None, None), (x, weight, a, b))


def kept(op: Callable[[], Tensor]) -> list[Tensor]:
    """What the graph holds for the backward pass."""
    found = list[Tensor]()
    with saved_tensors_hooks(lambda tensor: found.append(tensor) or tensor, lambda tensor: tensor):
        op()
    return found


@pytest.mark.parametrize("learn_a, numbers", [(True, 18 * (K + R)), (False, 18 * R)])
def test_it_keeps_x_and_u_and_never_y(learn_a: bool, numbers: int) -> None:
    x, weight, a, b, _ = given(BF16, F32)
    weight.requires_grad_(False)
    a.requires_grad_(learn_a)
    held = kept(lambda: lora_linear(x, weight, a, b, SCALE))
    parameters = {one.data_ptr() for one in (weight, a, b)}
    assert sum(one.numel() for one in held if one.data_ptr() not in parameters) == numbers
    assert x.data_ptr() in {one.data_ptr() for one in held} or not learn_a


@pytest.mark.parametrize("base, adapter", [(F32, F32), (BF16, F32), (F32, BF16)])
@pytest.mark.parametrize("inside", [False, True])
def test_under_autocast_it_is_what_torchs_linear_is(base: torch.dtype, adapter: torch.dtype, inside: bool) -> None:
    """x is float32 beside whatever weights; the gradients come back in their tensors' formats, inside autocast too."""
    formats = F32, base, adapter, adapter, base
    inputs = [one.detach().to(dtype).requires_grad_() for one, dtype in zip(given(F32, F32), formats, strict=True)]
    dy = drawn(2, 9, N, dtype=BF16, seed=1)
    found = list[list[Tensor]]()
    for op in (lora_linear, reference):
        with torch.autocast("cpu", dtype=BF16):
            y = op(*inputs[:4], SCALE, inputs[4])
            gradients = grad(y, inputs, dy, retain_graph=True)
        found.append([y, *(gradients if inside else grad(y, inputs, dy))])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype and far(one, other) < 3 * ROUNDING
    assert found[0][0].dtype == BF16


def test_a_backward_pass_inside_autocast_changes_no_format() -> None:
    inputs = given(F32, F32)
    y, dy = lora_linear(*inputs[:4], SCALE, inputs[4]), drawn(2, 9, N)
    outside = grad(y, inputs, dy, retain_graph=True)
    with torch.autocast("cpu", dtype=BF16):
        within = grad(y, inputs, dy)
    assert all(torch.equal(*pair) for pair in zip(outside, within, strict=True))


def test_a_forward_mode_derivative_takes_plain_torch() -> None:
    """y is linear in each factor, so its derivative along dA is s·(x dAᵀ)Bᵀ; the same where plain torch is asked for, or float64 given."""
    x, weight, a, b, _ = (one.detach() for one in given(F32, F32))
    step = drawn(R, K, seed=3)
    with forward_ad.dual_level():
        y = lora_linear(x, weight, forward_ad.make_dual(a, step), b, SCALE)
        torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, SCALE * (x @ step.T) @ b.T)
    _, moved = torch.func.jvp(lambda given: lora_linear(x, weight, given, b, SCALE), (a,), (step,))
    torch.testing.assert_close(moved, SCALE * (x @ step.T) @ b.T)
    learning = a.clone().requires_grad_()
    assert "Added" in names(lora_linear(x, weight, learning, b, SCALE))
    with road.only("reference"):
        assert "Added" not in names(lora_linear(x, weight, learning, b, SCALE))
    assert "Added" not in names(lora_linear(*(one.double() for one in (x, weight, learning, b)), SCALE))


@pytest.mark.parametrize("place", range(6), ids=["x", "W", "A", "B", "bias", "dropped"])
def test_a_forward_mode_derivative_along_any_one_factor(place: int) -> None:
    """Each of them alone sends the op to plain torch, or its derivative would be nothing."""
    x, weight, a, b, bias = (one.detach() for one in given(F32, F32))
    factors = [x, weight, a, b, bias, drawn(2, 9, K, seed=8)]
    step = drawn(*factors[place].shape, seed=3)

    def along(op: Callable[..., Tensor]) -> Tensor:
        with forward_ad.dual_level():
            own = [forward_ad.make_dual(one, step) if number == place else one for number, one in enumerate(factors)]
            return forward_ad.unpack_dual(op(*own[:4], SCALE, *own[4:])).tangent

    torch.testing.assert_close(along(lora_linear), along(reference))


@pytest.mark.parametrize(
    "place, apart", [(place, apart) for apart in (False, True) for place in range(5 + apart)], ids=lambda one: str(one).lower()
)
def test_any_one_factor_may_learn_alone(place: int, apart: bool) -> None:
    """x, W, A, B, the bias, and where it is given what the update reads."""
    factors = [one.detach() for one in given(F32, F32)] + ([drawn(2, 9, K, seed=8)] if apart else [])
    own, dy = factors[place].requires_grad_(), drawn(2, 9, N, seed=9)
    found, expected = (grad(op(*factors[:4], SCALE, *factors[4:]), own, dy)[0] for op in (lora_linear, reference))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def names(y: Tensor) -> str:
    """The nodes of y's graph."""
    nodes, found = [y.grad_fn], ""
    while nodes:
        node = nodes.pop()
        found += node.name() if node else ""
        nodes += [before for before, _ in node.next_functions] if node else []
    return found


def test_its_result_may_be_written_into_and_its_graph_serves_twice() -> None:
    """Residual streams are added to in place; and what would be a wrong second derivative is refused."""
    inputs = given(F32, F32)
    x, weight, a, b, bias = inputs
    before, dy = [one.detach().clone() for one in inputs], drawn(2, 9, N)
    y = lora_linear(x, weight, a, b, SCALE, bias)
    y += 1
    first, second = grad(y, inputs, dy, retain_graph=True), grad(y, inputs, dy, retain_graph=True)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert all(torch.equal(*pair) for pair in zip(inputs, before, strict=True))
    (slope,) = grad(y.square().sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("base, inside", [(F32, False), (BF16, False), (F32, True)], ids=str)
def test_a_weight_held_in_another_form_is_asked_for_in_each_pass_and_never_kept(base: torch.dtype, inside: bool) -> None:
    """What comes out is to the bit what it is of the weight itself; asked for in the format of the products."""
    x, weight, a, b, bias = inputs = given(base, F32)
    weight.requires_grad_(False)
    asked, dy, learn = list[torch.dtype](), drawn(2, 9, N, dtype=BF16 if inside else base, seed=1), [x, a, b, bias]

    def held(dtype: torch.dtype) -> Tensor:
        asked.append(dtype)
        return weight.to(dtype, copy=True)

    places = {one.data_ptr() for one in (x, weight, a, b)}
    found = list[list[Tensor]]()
    for one in (weight, held):
        with torch.autocast("cpu", dtype=BF16, enabled=inside):
            y = lora_linear(x, one, a, b, SCALE, bias)
            found.append([y, *grad(y, learn, dy)])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True)) and asked == [BF16 if inside else base] * 2
    rest = [one for one in kept(lambda: lora_linear(x, held, a, b, SCALE, bias)) if one.data_ptr() not in places]
    assert sum(one.numel() for one in rest) == 18 * R
    asked.clear()
    grad(lora_linear(x.detach(), held, a, b, SCALE), [a, b], dy.to(base))
    assert len(asked) == 1, "what goes no further needs it no more"
    torch.testing.assert_close(reference(*inputs[:1], held, *inputs[2:4], SCALE), reference(*inputs[:4], SCALE))


def test_no_rows_and_strides_of_any_kind() -> None:
    x, weight, a, b, bias = given(F32, F32)
    none = x.detach()[:0].requires_grad_()
    y = lora_linear(none, weight, a, b, SCALE, bias)
    slopes = grad(y.sum(), (none, a, b, bias))
    assert y.shape == (0, 9, N) and slopes[0].shape == none.shape and not any(slope.any() for slope in slopes[1:])
    turned, upstream = x.transpose(0, 1), drawn(N, 2, 9).permute(2, 1, 0)
    found = grad(lora_linear(turned, weight, a, b, SCALE, bias), (x, a, b), upstream)
    expected = grad(lora_linear(turned.contiguous(), weight, a, b, SCALE, bias), (x, a, b), upstream.contiguous())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@formats
def test_torch_compile_keeps_it(base: torch.dtype, adapter: torch.dtype) -> None:
    inputs, dy = given(base, adapter), drawn(2, 9, N, dtype=base, seed=1)

    def op(x: Tensor, weight: Tensor, a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
        return lora_linear(x, weight, a, b, SCALE, bias)

    compiled = torch.compile(op, backend="aot_eager", fullgraph=True)
    y, other = op(*inputs), compiled(*inputs)
    assert torch.equal(y, other)
    assert all(torch.equal(*pair) for pair in zip(grad(y, inputs, dy), grad(other, inputs, dy), strict=True))
