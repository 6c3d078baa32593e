"""Dual numbers through a model without the detours that torch takes where one side of an op has no derivative.

    (a + ȧε)·b = ab + ȧb·ε,      (a + ȧε) + b = a + b + ȧ·ε,      (x + ẋε)(W + Ẇε)ᵀ = xWᵀ + (ẋWᵀ + xẆᵀ)·ε,   ε² = 0

For a side without a derivative (a norm's weight, the angles of a rotation, a number, a frozen matrix, a mask) torch calculates with zeros,
and asks Python for the shape of each sum with them [V]: in a small model that takes longer than the rest. What comes out is the same to
the bit. Any other op goes on to torch. Tag as in the project's notes: [V] measured by us.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

Side = Tensor | float | None


class Duals(TorchFunctionMode):
    """For the length of a `with` inside `forward_ad.dual_level`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # fmt: skip
        return RULES.get(func, func)(*args, **(kwargs or {}))


def _apart(side: Side) -> tuple[Any, Tensor | None]:
    return tuple(forward_ad.unpack_dual(side)) if isinstance(side, Tensor) else (side, None)


def _product(input: Side, other: Side) -> Tensor:
    (a, along_a), (b, along_b) = _apart(input), _apart(other)
    if (along_a is None) == (along_b is None):
        return torch.mul(input, other)
    return forward_ad.make_dual(a * b, a * along_b if along_a is None else along_a * b)


def _sum(input: Side, other: Side, alpha: float = 1) -> Tensor:
    (a, along_a), (b, along_b) = _apart(input), _apart(other)
    if alpha != 1 or (along_a is None) == (along_b is None):
        return torch.add(input, other, alpha=alpha)
    found, along = a + b, along_b if along_a is None else along_a
    return forward_ad.make_dual(found, along.to(found.dtype).expand_as(found))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    (x, along_x), (weight, along_weight), (bias, along_bias) = _apart(input), _apart(weight), _apart(bias)
    found = linear(x, weight, bias)
    parts = [] if along_x is None else [linear(along_x, weight)]
    parts += [] if along_weight is None else [linear(x, along_weight)]
    parts += [] if along_bias is None else [along_bias.expand_as(found)]
    return forward_ad.make_dual(found, sum(parts[1:], parts[0])) if parts else found


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """With a mask whose derivative is there, and 0, where another's is."""
    if attn_mask is not None and any(_apart(one)[1] is not None for one in (query, key, value)):
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -torch.inf)
        attn_mask = forward_ad.make_dual(attn_mask, torch.zeros_like(attn_mask))
    return scaled_dot_product_attention(query, key, value, attn_mask, *args, **kwargs)


RULES: dict[Callable[..., Any], Callable[..., Tensor]] = {
    Tensor.mul: _product, torch.mul: _product, Tensor.add: _sum, torch.add: _sum, linear: _linear,
    scaled_dot_product_attention: _attention,
}  # fmt: skip
