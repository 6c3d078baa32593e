"""Dual numbers by rules of our own: values and derivatives are torch's to the bit, and a model's ops come by them."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from pico import make_model
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear, scaled_dot_product_attention

from workbench.materials import duals
from workbench.materials.duals import Duals


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


def both(op: Callable[..., Tensor], *sides: object, moving: tuple[int, ...]) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """(value, derivative) of an op by torch and by the rules; the sides named move."""
    found = []
    for rules in (False, True):
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            own = [
                forward_ad.make_dual(side, drawn(*side.shape, dtype=side.dtype, seed=7 + place)) if place in moving else side
                for place, side in enumerate(sides)
            ]
            if rules:
                with Duals():
                    y = op(*own)
            else:
                y = op(*own)
            found.append(list(forward_ad.unpack_dual(y)))
    return found[0], found[1]


def alike(one: list[Tensor | None], other: list[Tensor | None]) -> bool:
    return one[0].dtype == other[0].dtype and all(
        (x is None) == (y is None) and (x is None or (x.shape == y.shape and torch.equal(x, y))) for x, y in zip(one, other, strict=True)
    )


WIDE, NARROW, COLUMN = drawn(2, 3, 4), drawn(4), drawn(3, 1)
HALF = drawn(4, dtype=torch.bfloat16)
OPS = {
    "product": lambda x, y: x * y,
    "sum": lambda x, y: x + y,
    "sum of a multiple": lambda x, y: torch.add(x, y, alpha=2) if isinstance(x, Tensor) else y + 2 * x,
    "named": lambda x, y: torch.mul(input=x, other=y) + torch.add(y, other=3) if isinstance(x, Tensor) else x * y,
}


@pytest.mark.parametrize("moving", [(), (0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("sides", [(WIDE, NARROW), (COLUMN, WIDE), (WIDE, HALF), (NARROW, COLUMN)], ids=["wide", "column", "half", "both"])
@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_products_and_sums(op: Callable[..., Tensor], sides: tuple[Tensor, Tensor], moving: tuple[int, ...]) -> None:
    assert alike(*both(op, *sides, moving=moving))


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_products_and_sums_with_a_number(op: Callable[..., Tensor]) -> None:
    assert alike(*both(op, WIDE, 0.3, moving=(0,))) and alike(*both(op, 0.3, WIDE, moving=(1,)))


@pytest.mark.parametrize("moving", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_a_linear_layer(moving: tuple[int, ...]) -> None:
    """The derivative is that of the formula; torch sums it in another order."""
    x, weight, bias = drawn(2, 5, 4), drawn(3, 4), drawn(3)
    (plain, along), (value, slope) = both(linear, x, weight, bias, moving=moving)
    assert torch.equal(plain, value) and (slope is None) == (not moving)
    if moving:
        torch.testing.assert_close(slope, along)
    assert alike(*both(lambda x, weight: linear(x, weight), x, weight, moving=moving[:1] if moving != (2,) else ()))


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float"])
def test_attention(mask: str) -> None:
    q, k, v = (drawn(1, 2, 5, 4, seed=seed) for seed in range(3))
    shown = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    shown[..., 2, :] = False  # a row that sees nothing
    given = {"bool": shown, "float": torch.zeros(1, 1, 5, 5).masked_fill(~shown, -torch.inf)}.get(mask)

    def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, attn_mask=given, is_causal=mask == "causal", scale=0.7)

    for moving in ((0, 1, 2), (0,), ()):
        plain, found = both(attended, q, k, v, moving=moving)
        assert found[0].isfinite().all() and (found[1] is None) == (not moving)
        assert torch.equal(plain[0], found[0]) and (not moving or torch.equal(plain[1], found[1]))


def test_a_model_comes_by_every_rule_and_gives_the_same(monkeypatch: pytest.MonkeyPatch, pico_batch: dict[str, Tensor]) -> None:
    """Were an op to come in under another name, as after an update of torch, the rules would be of no use."""
    model = make_model()
    moved = {name: parameter.detach() for name, parameter in model.named_parameters() if "q_proj" in name or "down_proj" in name}
    seen, found = Counter[str](), []
    for func, rule in duals.RULES.items():
        spy = lambda *given, rule=rule, **named: seen.update([rule.__name__]) or rule(*given, **named)  # noqa: E731
        monkeypatch.setitem(duals.RULES, func, spy)
    for rules in (False, True):
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            own = {name: forward_ad.make_dual(value, drawn(*value.shape, seed=3)) for name, value in moved.items()}
            inputs = {name: pico_batch[name] for name in ("input_ids", "attention_mask")}
            if rules:
                with Duals():
                    y = functional_call(model, own, (), inputs).logits
            else:
                y = functional_call(model, own, (), inputs).logits
            found.append(forward_ad.unpack_dual(y))
    assert torch.equal(found[0].primal, found[1].primal)
    torch.testing.assert_close(found[1].tangent, found[0].tangent)
    assert set(seen) == {"_product", "_sum", "_linear", "_attention"}
