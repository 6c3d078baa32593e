"""A linear layer with a low-rank update beside it, as LoRA trains it.

    u = x̂Aᵀ,   y = xWᵀ + s·uBᵀ (+ bias)          arXiv:2106.09685; x̂ is x, or x after dropout
    du = s·dy·B,   dA = duᵀx̂,   dB = s·dyᵀu,   dx = dy·W + du·A

Shapes: x, x̂ (…, K) · W (N, K) · A (r, K) · B (N, r) · bias (N,) · y (…, N). y has the number format of x and W. A and B may be
wider (float32 beside bfloat16): they are cast for the products, and their gradients come back in their own format. What is kept for the
backward pass is x̂ and u, and x where W learns; never y. A W that is held in another form, as in 4 bits, is a function that has it anew in
the format of x: asked in each pass, and kept in none. A frozen W costs no gradient of its own: 4MNK + 6Mr(N + K) floating-point
operations. The products are torch's, on a CPU and on a GPU alike; the update is added into y and dx by its own product. Bytes of e each
beside the weights, forward: e(2MK + 2Mr + 3MN).

No kernel of ours: one that adds s·uBᵀ to a product in memory moves 2eMN, as torch's does, which scales and adds too. Only one that forms
x·Wᵀ itself would save that. It would have to be as fast as 1/(1 + 2P/(K·BW)) of the vendor's product, which does P operations in a second
where memory does BW bytes: 71 % on an H200 at K = 896, 85 % at 2,048, 92 % at 4,096. To read dy once for du and dB (arXiv:2510.00206) would
save eMN, of which sums in a fixed order cost 8r(MS + NT) again, with columns in S parts and rows in T: at M = 16,384, r = 32 and S·T = 128
half of it where N = 2,048, a quarter where N = 8,192 (derived, not measured). Layers that read the same x: `lora_linears`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from workbench_kernels.road import forced

Held = Callable[[torch.dtype], Tensor]


def reference(
    x: Tensor, weight: Tensor | Held, a: Tensor, b: Tensor, scale: float, bias: Tensor | None = None, dropped: Tensor | None = None
) -> Tensor:
    """The specification, as peft's lora.Linear computes it."""
    y = linear(x, _whole(weight, x.dtype), bias)
    low = (x if dropped is None else dropped).to(a.dtype)
    return (y + linear(linear(low, a), b) * scale).to(y.dtype)


class Added(torch.autograd.Function):
    """Of rows (M, K). The factors of every product have the number format of x."""

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor | Held, a: Tensor, b: Tensor, scale: float, bias: Tensor | None, dropped: Tensor | None
    ) -> Tensor:  # fmt: skip
        low = x if dropped is None else dropped
        u = low @ a.to(x.dtype).T
        learns, learns_a = ctx.needs_input_grad[1:3]
        held = not isinstance(weight, Tensor)
        ctx.save_for_backward(x if learns else None, low if learns_a else None, u, None if held else weight, a, b)
        ctx.scale, ctx.apart, ctx.held = scale, dropped is not None, weight if held else None
        return linear(x, _whole(weight, x.dtype), bias).addmm_(u, b.to(x.dtype).T, alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, low, u, weight, a, b = ctx.saved_tensors
        need_x, need_weight, need_a, need_b, _, need_bias, need_dropped = ctx.needs_input_grad
        dx, dweight, da, db, dbias, ddropped = [None] * 6
        with torch.autocast(u.device.type, enabled=False):  # the number formats were settled in the forward pass
            if need_x or need_a or need_dropped:
                narrow, du = a.to(u.dtype), into_u(dy, b, ctx.scale)
            if need_x:
                weight = weight if ctx.held is None else ctx.held(u.dtype)
                dx = dy @ weight if ctx.apart else (dy @ weight).addmm_(du, narrow)
            if need_dropped:
                ddropped = du @ narrow
            if need_a:
                da = product(du.T, low, a.dtype)
            if need_b:
                db = product(u.T, dy, b.dtype).mul_(ctx.scale).T
            if need_weight:
                dweight = dy.T @ x
            if need_bias:
                dbias = dy.sum(0)
        return dx, dweight, da, db, None, dbias, ddropped


def _whole(weight: Tensor | Held, dtype: torch.dtype) -> Tensor:
    return weight if isinstance(weight, Tensor) else weight(dtype)


def into_u(dy: Tensor, b: Tensor, scale: float) -> Tensor:
    """du. B is turned first, as dB is computed turned: on a CPU both are then products along rows, several times faster at a low rank."""
    turned = b.to(dy.dtype).T.contiguous()
    return dy.new_empty(dy.shape[0], b.shape[1]).addmm_(dy, turned.T, beta=0, alpha=scale)


def product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """left @ right in this format. On CUDA torch can hand out the float32 sum itself; on the CPU it rounds to the factors' format first."""
    if left.is_cuda and dtype == torch.float32 != left.dtype:
        return torch.mm(left, right, out_dtype=dtype)
    return (left @ right).to(dtype)


def lora_linear(
    x: Tensor, weight: Tensor | Held, a: Tensor, b: Tensor, scale: float, bias: Tensor | None = None, dropped: Tensor | None = None
) -> Tensor:
    """y (…, N) of x (…, K); the update reads `dropped` where it is given. Under autocast the formats are those of torch's linear there."""
    if plain(x, weight, a, b, bias, dropped):
        return reference(x, weight, a, b, scale, bias, dropped)
    rows, low = (None if one is None else one.reshape(-1, one.shape[-1]) for one in (x, dropped))
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        rows, low, bias = (None if one is None else one.to(dtype) for one in (rows, low, bias))
        weight = weight.to(dtype) if isinstance(weight, Tensor) else weight
    return Added.apply(rows, weight, a, b, scale, bias, low).view(*x.shape[:-1], b.shape[0])


def plain(x: Tensor, *others: Tensor | Held | None) -> bool:
    """Whether it is left to plain torch: asked for, in float64, or under a forward-mode derivative, which has no other road."""
    dual = any(isinstance(one, Tensor) and forward_ad.unpack_dual(one).tangent is not None for one in (x, *others))
    return dual or forced() == "reference" or x.dtype == torch.float64
