"""RMSNorm, forward and backward, with the gradient of its weight in float32.

    r = (mean(x²) + ε)^(−1/2),   x̂ = x·r
    Llama: y = cast(x̂)·w          Gemma: y = cast(x̂·(1 + w))          arXiv:1910.07467; the two casts are those of transformers
    dx = r·(g − x̂·mean(g·x̂)),  g = dy·w (Gemma: dy·(1 + w));   dw = Σ_rows dy·x̂ (Llama: dy·cast(x̂))

Shapes: x, y, dx (…, N) in float32, bfloat16 or float16 · w, dw (N,) · r one float32 a row. Everything inside is float32. dw is summed in a
fixed order, so that two runs are alike to the bit; it is not computed where w does not learn. No input is written into. A row of
zeros has r = ε^(−1/2), which is finite. Bytes of e each: forward 2eMN + eN + 4M, backward 3eMN and the partial sums.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workbench_kernels.parts import FLOATS, PROGRAMS, Launch, Variant, cdiv, jit, power_of_2, tl
from workbench_kernels.road import interpreted, pick
from workbench_kernels.tuned import tuned

WIDEST = 32_768  # numbers of a row that one program holds; wider rows take the reference


def reference(x: Tensor, weight: Tensor, eps: float, gemma: bool = False) -> Tensor:
    """The specification, as transformers' LlamaRMSNorm and GemmaRMSNorm compute it."""
    wide = x.double() if x.dtype == torch.float64 else x.float()
    unit = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (unit * (1 + weight.to(unit.dtype))).to(x.dtype) if gemma else weight * unit.to(x.dtype)


@jit
def forward_kernel(X, W, Y, R, stride_x, stride_y, N, eps, BLOCK: tl.constexpr, GEMMA: tl.constexpr, TYPE: tl.constexpr):
    """One row a program."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < N
    x = tl.load(X + row * stride_x + column, mask=there, other=0.0).to(tl.float32)
    w = tl.load(W + column, mask=there, other=0.0).to(tl.float32)
    r = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / N + tl.cast(eps, tl.float32))
    unit = x * r
    y = unit * (1.0 + w) if GEMMA else unit.to(TYPE).to(tl.float32) * w
    tl.store(Y + row * stride_y + column, y, mask=there)
    tl.store(R + row, r)


@jit(do_not_specialize=("M", "each"))
def backward_kernel(
    DY, X, W, R, DX, DW, stride_dy, stride_x, stride_dx, M, N, each,
    BLOCK: tl.constexpr, GEMMA: tl.constexpr, TYPE: tl.constexpr, NEED_DW: tl.constexpr,
):  # fmt: skip
    """`each` rows a program, which sums their share of dw in registers and writes it once, into a line of its own of DW."""
    program = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < N
    w = tl.load(W + column, mask=there, other=0.0).to(tl.float32)
    if GEMMA:
        w = 1.0 + w
    dw = tl.zeros((BLOCK,), tl.float32)
    for turn in range(0, each):
        row = program * each + turn
        live = there & (row + column * 0 < M)  # a block, because the interpreter takes no block & scalar
        x = tl.load(X + row * stride_x + column, mask=live, other=0.0).to(tl.float32)
        dy = tl.load(DY + row * stride_dy + column, mask=live, other=0.0).to(tl.float32)
        r = tl.load(R + tl.minimum(row, M - 1))
        unit = x * r
        g = dy * w
        dx = r * (g - unit * (tl.sum(g * unit, axis=0) / N))
        tl.store(DX + row * stride_dx + column, dx, mask=live)
        if NEED_DW:
            dw += dy * unit if GEMMA else dy * unit.to(TYPE).to(tl.float32)
    if NEED_DW:
        tl.store(DW + program * N + column, dw, mask=there)


def launch(n: int) -> Launch:
    """For rows of n numbers."""
    return Launch(warps=4 if n <= 1024 else 8 if n <= 4096 else 16, tiles={"BLOCK": power_of_2(n)})


def variants() -> Iterator[Variant]:
    """What is compiled ahead of time: the widths of Qwen2.5-0.5B, Llama-3.2-1B and Llama-3.1-8B."""
    pointers = dict.fromkeys(("X", "W", "Y", "DY", "DX"), "*bf16") | {"R": "*fp32", "DW": "*fp32"}
    scalars = dict.fromkeys(("stride_x", "stride_y", "stride_dy", "stride_dx", "M", "N", "each"), "i32") | {"eps": "fp32"}
    aligned = ("stride_x", "stride_y", "stride_dy", "stride_dx", "N")
    for n in (896, 2048, 4096):
        kind = {"GEMMA": n == 2048, "TYPE": FLOATS[torch.bfloat16]}
        yield Variant(forward_kernel, pointers | scalars, kind, launch(n), aligned, wide=True)
        yield Variant(backward_kernel, pointers | scalars, kind | {"NEED_DW": n < 4096}, launch(n), aligned, wide=True)


@torch.library.custom_op("workbench::rms_norm", mutates_args=())
def _forward(x: Tensor, weight: Tensor, eps: float, gemma: bool) -> tuple[Tensor, Tensor]:
    """y and r of rows (M, N)."""
    y, r = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(x.shape[0], dtype=torch.float32)
    if x.shape[0]:
        settings = {"GEMMA": gemma, "TYPE": FLOATS[x.dtype], **tuned("rms_norm", x.device, launch(x.shape[1]), x.shape[1]).options()}
        forward_kernel[(x.shape[0],)](x, weight, y, r, x.stride(0), y.stride(0), x.shape[1], eps, **settings)
    return y, r


@_forward.register_fake
def _(x: Tensor, weight: Tensor, eps: float, gemma: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(x.shape[0], dtype=torch.float32)


@torch.library.custom_op("workbench::rms_norm_backward", mutates_args=())
def _backward(dy: Tensor, x: Tensor, weight: Tensor, r: Tensor, gemma: bool, need_dw: bool) -> tuple[Tensor, Tensor]:
    """dx (M, N) and dw (N,) float32, which is empty where it is not needed."""
    rows, n = x.shape
    dx, programs = torch.empty_like(x, memory_format=torch.contiguous_format), min(rows, 3 if interpreted() else PROGRAMS)
    partial = x.new_empty(programs if need_dw else 0, n, dtype=torch.float32)
    if rows:
        settings = {
            "GEMMA": gemma,
            "TYPE": FLOATS[x.dtype],
            "NEED_DW": need_dw,
            **tuned("rms_norm_backward", x.device, launch(n), n).options(),
        }
        each = cdiv(rows, programs)
        backward_kernel[(programs,)](
            dy, x, weight, r, dx, partial, dy.stride(0), x.stride(0), dx.stride(0), rows, n, each, **settings
        )  # fmt: skip
    return dx, partial.sum(0) if need_dw else partial.new_empty(0)


@_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, r: Tensor, gemma: bool, need_dw: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), r.new_empty(x.shape[1] if need_dw else 0)


class Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
        y, r = _forward(x, weight, eps, gemma)
        ctx.save_for_backward(x, weight, r)
        ctx.gemma = gemma
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, weight, r = ctx.saved_tensors
        need_dw = ctx.needs_input_grad[1]
        dx, dw = _backward(dy if dy.stride(-1) == 1 else dy.contiguous(), x, weight, r, ctx.gemma, need_dw)
        return dx, dw.to(weight.dtype) if need_dw else None, None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float, gemma: bool = False) -> Tensor:
    """y (…, N) of x (…, N) and weight (N,), in the number format of x; see the module's docstring."""
    if pick(x) == "reference" or not 0 < x.shape[-1] <= WIDEST or x.dtype not in FLOATS or weight.dtype != x.dtype:
        return reference(x, weight, eps, gemma)
    rows = x.reshape(-1, x.shape[-1])
    return Normed.apply(rows if rows.stride(-1) == 1 else rows.contiguous(), weight.contiguous(), eps, gemma).view(x.shape)
