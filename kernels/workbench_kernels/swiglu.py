"""SwiGLU and GeGLU, h = act(gate)·up, forward and backward.

    f = g·σ(v),   SwiGLU: v = g          GeGLU: v = √(8/π)·(g + 0.044715·g³)
    h = cast(f)·u                        arXiv:2002.05202; the cast is that of transformers
    du = dh·cast(f),   dg = dh·u·(σ + g·σ·(1 − σ)·v′)

The v of GeGLU is the tanh form of GELU (arXiv:1606.08415), since (1 + tanh z)/2 = σ(2z). σ comes from exp(−|v|), so that it cannot
overflow and keeps its digits where it is small. Shapes: gate, up, h (…, N), all alike, in float32, bfloat16 or float16; everything inside
is float32. The two halves of one fused projection are read where they lie. Only gate and up are kept for the backward pass (eager torch
keeps f too), and no input is written into. Bytes of e each, n numbers: forward 3en, backward 5en.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench_kernels.parts import FLOATS, Launch, Variant, cdiv, jit, power_of_2, tl
from workbench_kernels.road import pick
from workbench_kernels.tuned import tuned


def reference(gate: Tensor, up: Tensor, gelu: bool = False) -> Tensor:
    """The specification, as the gated MLPs of transformers compute it (Llama: hidden_act silu; Gemma: gelu_pytorch_tanh)."""
    return (F.gelu(gate, approximate="tanh") if gelu else F.silu(gate)) * up


@jit
def activation(g, GELU: tl.constexpr):
    """f and its derivative. The bound of GeGLU's gate changes neither, and without it σ·(1 − σ) = 0 would meet an infinite v′."""
    v, slope = g, 1.0
    if GELU:
        bound = tl.minimum(tl.maximum(g, -1000.0), 1000.0)
        v = 1.5957691216057308 * bound * (1.0 + 0.044715 * bound * bound)
        slope = 1.5957691216057308 * (1.0 + 0.134145 * bound * bound)
    small = tl.exp(-tl.abs(v))
    s = tl.where(v < 0, small, 1.0) / (1.0 + small)
    f = g * s
    return f, s + f * (1.0 - s) * slope


@jit
def forward_kernel(G, U, H, stride_g, stride_u, N, BLOCK: tl.constexpr, GELU: tl.constexpr, TYPE: tl.constexpr):
    """A piece of one row a program."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = column < N
    g = tl.load(G + row * stride_g + column, mask=there, other=0.0).to(tl.float32)
    u = tl.load(U + row * stride_u + column, mask=there, other=0.0).to(tl.float32)
    f, _ = activation(g, GELU)
    tl.store(H + row * N + column, f.to(TYPE).to(tl.float32) * u, mask=there)


@jit
def backward_kernel(
    DH, G, U, DG, DU, stride_dh, stride_g, stride_u, N, BLOCK: tl.constexpr, GELU: tl.constexpr, TYPE: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = column < N
    dh = tl.load(DH + row * stride_dh + column, mask=there, other=0.0).to(tl.float32)
    g = tl.load(G + row * stride_g + column, mask=there, other=0.0).to(tl.float32)
    u = tl.load(U + row * stride_u + column, mask=there, other=0.0).to(tl.float32)
    f, slope = activation(g, GELU)
    tl.store(DG + row * N + column, dh * u * slope, mask=there)
    tl.store(DU + row * N + column, dh * f.to(TYPE).to(tl.float32), mask=there)


def launch(n: int) -> Launch:
    """For rows of n numbers: eight to a thread, which is one load of 128 bits in bfloat16."""
    return Launch(warps=4, tiles={"BLOCK": min(1024, power_of_2(n))})


def variants() -> Iterator[Variant]:
    """What is compiled ahead of time: the widths of Llama-3.2-1B (SwiGLU) and Gemma-3-1B (GeGLU)."""
    types = dict.fromkeys(("G", "U", "H", "DH", "DG", "DU"), "*bf16") | dict.fromkeys(("stride_g", "stride_u", "stride_dh", "N"), "i32")
    aligned = ("stride_g", "stride_u", "stride_dh", "N")
    for n, gelu in ((8192, False), (6912, True)):
        kind = {"GELU": gelu, "TYPE": FLOATS[torch.bfloat16]}
        yield Variant(forward_kernel, types, kind, launch(n), aligned, wide=True)
        yield Variant(backward_kernel, types, kind, launch(n), aligned, wide=True)


@torch.library.custom_op("workbench::glu", mutates_args=())
def _forward(gate: Tensor, up: Tensor, gelu: bool) -> Tensor:
    """h of rows (M, N)."""
    (rows, n), h = gate.shape, torch.empty_like(gate, memory_format=torch.contiguous_format)
    start = tuned("glu", gate.device, launch(n), n)
    settings = {"GELU": gelu, "TYPE": FLOATS[gate.dtype], **start.options()}
    forward_kernel[(rows, cdiv(n, start.tiles["BLOCK"]))](gate, up, h, gate.stride(0), up.stride(0), n, **settings)
    return h


@_forward.register_fake
def _(gate: Tensor, up: Tensor, gelu: bool) -> Tensor:
    return torch.empty_like(gate, memory_format=torch.contiguous_format)


@torch.library.custom_op("workbench::glu_backward", mutates_args=())
def _backward(dh: Tensor, gate: Tensor, up: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    """dg and du of rows (M, N)."""
    (rows, n), (dg, du) = gate.shape, (torch.empty_like(gate, memory_format=torch.contiguous_format) for _ in range(2))
    start = tuned("glu_backward", gate.device, launch(n), n)
    settings = {"GELU": gelu, "TYPE": FLOATS[gate.dtype], **start.options()}
    backward_kernel[(rows, cdiv(n, start.tiles["BLOCK"]))](
        dh, gate, up, dg, du, dh.stride(0), gate.stride(0), up.stride(0), n, **settings
    )  # fmt: skip
    return dg, du


@_backward.register_fake
def _(dh: Tensor, gate: Tensor, up: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty_like(gate, memory_format=torch.contiguous_format) for _ in range(2))


class Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor, gelu: bool) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.gelu = gelu
        return _forward(gate, up, gelu)

    @staticmethod
    def backward(ctx, dh: Tensor) -> tuple[Tensor, Tensor, None]:
        return *_backward(_rows(dh), *ctx.saved_tensors, ctx.gelu), None


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate)·up, (…, N) each; see the module's docstring."""
    return _gated(gate, up, gelu=False)


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    """gelu(gate)·up with the tanh form of GELU, (…, N) each."""
    return _gated(gate, up, gelu=True)


def _gated(gate: Tensor, up: Tensor, gelu: bool) -> Tensor:
    same = gate.shape == up.shape and gate.dtype == up.dtype
    if pick(gate) == "reference" or not same or gate.dtype not in FLOATS or not gate.numel():
        return reference(gate, up, gelu)
    return Gated.apply(_rows(gate), _rows(up), gelu).view(gate.shape)


def _rows(x: Tensor) -> Tensor:
    """(M, N), copied only where the numbers of a row do not lie side by side."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()
