"""Several linear layers that read the same x, each with a low-rank update beside it: q, k and v, or gate and up.

    u = x·[A₁; …; Aₙ]ᵀ,   yᵢ = xWᵢᵀ + sᵢ·uᵢBᵢᵀ (+ biasᵢ)          arXiv:2106.09685; uᵢ is a part of u
    duᵢ = sᵢ·dyᵢBᵢ,   [dA₁; …; dAₙ] = duᵀx,   dBᵢ = sᵢ·dyᵢᵀuᵢ,   dx = Σ dyᵢWᵢ + du·[A₁; …; Aₙ]

Shapes and number formats are those of `lora_linear`; ranks may differ, W and biases are frozen. There are as many products with W, and
one with x for all u and one for all dA, and dx is summed where it lies, by the products: 4(n − 1) products and sums fewer. Beside dy, y and
the weights, n layers apart read x n times forward and n times backward, write n products for dx, read and write each once more for its
update, and autograd moves 3(n − 1) for their sum: (8n − 3)eMK bytes. Together it is (2n + 3)eMK. So q, k and v move 9 in the place of 21,
gate and up 7 in the place of 13; what is joined, A and du, has r columns (derived).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from workbench_kernels.lora_linear import into_u, lora_linear, plain, product
from workbench_kernels.lora_linear import reference as of_one


class Layer(NamedTuple):
    """What `lora_linear` takes beside x."""

    weight: Tensor
    a: Tensor
    b: Tensor
    scale: float
    bias: Tensor | None = None


def reference(x: Tensor, layers: Sequence[Layer]) -> tuple[Tensor, ...]:
    """The specification: one layer after the other."""
    return tuple(of_one(x, *layer) for layer in layers)


class Together(torch.autograd.Function):
    """Of rows (M, K). `factors`: every A, every B, every W, every bias or None."""

    @staticmethod
    def forward(ctx, x: Tensor, scales: tuple[float, ...], *factors: Tensor | None) -> tuple[Tensor, ...]:
        n = len(scales)
        a, b, weights, biases = (factors[start : start + n] for start in range(0, 4 * n, n))
        every_a = torch.cat([one.to(x.dtype) for one in a])
        u = x @ every_a.T
        learns_a = any(ctx.needs_input_grad[2 : 2 + n])
        ctx.save_for_backward(x if learns_a else None, u, every_a, *b, *weights)
        ctx.scales, ctx.ranks, ctx.kind = scales, [len(one) for one in a], a[0].dtype
        given = zip(weights, biases, u.split(ctx.ranks, 1), b, scales, strict=True)
        return tuple(linear(x, weight, bias).addmm_(own, wide.to(x.dtype).T, alpha=scale) for weight, bias, own, wide, scale in given)

    @staticmethod
    @once_differentiable
    def backward(ctx, *dys: Tensor) -> tuple[Tensor | None, ...]:
        n = len(dys)
        x, u, every_a, *factors = ctx.saved_tensors
        b, weights = factors[:n], factors[n:]
        need_x, need_a, need_b = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2 : 2 + n]), ctx.needs_input_grad[2 + n : 2 + 2 * n]
        dx, da, db = None, [None] * n, [None] * n
        with torch.autocast(u.device.type, enabled=False):  # the number formats were settled in the forward pass
            if need_x or need_a:
                du = torch.cat([into_u(*each) for each in zip(dys, b, ctx.scales, strict=True)], 1)
            if need_x:
                dx = dys[0] @ weights[0]
                for dy, weight in zip(dys[1:], weights[1:], strict=True):
                    dx.addmm_(dy, weight)
                dx.addmm_(du, every_a)
            if need_a:
                da = product(du.T, x, ctx.kind).split(ctx.ranks)
            for place, (own, dy) in enumerate(zip(u.split(ctx.ranks, 1), dys, strict=True)):
                if need_b[place]:
                    db[place] = product(own.T, dy, b[place].dtype).mul_(ctx.scales[place]).T
        return dx, None, *da, *db, *[None] * (2 * n)


def lora_linears(x: Tensor, layers: Sequence[Layer]) -> tuple[Tensor, ...]:
    """y (…, N) of each layer, for x (…, K). One that cannot share, as its W learns, has them all go alone."""
    weights, a, b, scales, biases = zip(*layers, strict=True)
    learns = any(one is not None and one.requires_grad for one in (*weights, *biases))
    if learns or len({one.dtype for one in a}) > 1 or plain(x, *weights, *a, *b, *biases):
        return tuple(lora_linear(x, *layer) for layer in layers)
    rows, frozen = x.reshape(-1, x.shape[-1]), (*weights, *biases)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        rows, frozen = rows.to(dtype), [None if one is None else one.to(dtype) for one in frozen]
    return tuple(y.view(*x.shape[:-1], y.shape[1]) for y in Together.apply(rows, scales, *a, *b, *frozen))
