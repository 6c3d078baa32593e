"""Rotary positions on queries and keys, with the norm of each head before them where a model has one (Qwen3, Gemma3), in one launch.

    x̂ = x·r,  r = (mean(x²) + ε)^(−1/2),   n = cast(x̂)·w (Llama's rounding) or x̂·(1 + w) (Gemma's);  without a norm n = x
    a′ = a·cos − b·sin,   b′ = b·cos + a·sin                   of the halves a, b of n            arXiv:2104.09864
    backward, by the transpose:  gₐ = a′·cos + b′·sin,  g_b = b′·cos − a′·sin of what comes in;  then, with g = (gₐ, g_b),
    dw = Σ g·x̂ (Llama: g·cast(x̂)),   g ← g·w (Gemma: g·(1 + w)),   dx = r·(g − x̂·mean(g·x̂))

Shapes: q (B, T, Hq, D), k (B, T, Hk, D) as the projections give them · cos, sin (1 or B, T, R), R ≤ D, both halves alike, of any float
type, without a gradient; the factor of YaRN is already in them · norms (D,). Where R < D, the last D − R numbers of a head do not turn.
Only the half-split layout of transformers' Llama: never interleaved pairs. The reference rounds each product, as transformers does; the
kernel is float32 from the load to one rounding at the store, which is nearer to float64. dw is summed in float32 in a fixed order, and not
computed where no norm learns. Without norms neither q nor k is kept for the backward pass. No input is written into. Bytes of e each,
n numbers in q and k: 2en forward and, without norms, backward; 3en backward with them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workbench_kernels.parts import FLOATS, Launch, Variant, cdiv, jit, power_of_2, tl
from workbench_kernels.rms_norm import reference as normed
from workbench_kernels.road import interpreted, pick
from workbench_kernels.tuned import tuned

HEADS = 8  # heads of one token that a program takes, of q or of k
PROGRAMS = 2112  # of a backward pass that sums dw: 16 for each of the 132 multiprocessors of an H100 or H200, D float32 numbers each


def reference(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor,
    q_norm: Tensor | None = None, k_norm: Tensor | None = None, eps: float = 0.0, gemma: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The specification, as the attention of transformers' Llama, Phi3, Qwen3 and Gemma3 computes it, here with tokens before heads."""
    q = q if q_norm is None else normed(q, q_norm, eps, gemma)
    k = k if k_norm is None else normed(k, k_norm, eps, gemma)
    return _turned(q, cos, sin), _turned(k, cos, sin)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    width = cos.shape[-1]
    first, second = x[..., :width].chunk(2, -1)
    y = x[..., :width] * cos.unsqueeze(2) + torch.cat((-second, first), -1) * sin.unsqueeze(2)
    return y.to(x.dtype) if width == x.shape[-1] else torch.cat((y.to(x.dtype), x[..., width:]), -1)


@jit
def pairs(D: tl.constexpr, R: tl.constexpr, HALF: tl.constexpr):
    """Where the numbers of each pair stand in a head, and which pairs there are. What does not turn is paired likewise."""
    pair = tl.arange(0, HALF)
    first, second = pair, pair + D // 2
    if R < D:
        first = pair + tl.where(pair < R // 2, 0, R // 2)
        second = pair + tl.where(pair < R // 2, R // 2, D // 2)
        if R % 16 == 0 and D % 16 == 0:  # told, or the compiler would load one number at a time
            first, second = tl.max_contiguous(tl.multiple_of(first, 8), 8), tl.max_contiguous(tl.multiple_of(second, 8), 8)
    return first, second, pair < D // 2


@jit
def angle(COS, SIN, place, live, R: tl.constexpr, HALF: tl.constexpr):
    """cos and sin of one token's pairs: 1 and 0 for those that do not turn."""
    pair = tl.arange(0, HALF)
    turns = live & (pair < R // 2)
    cosine = tl.load(COS + place + pair, mask=turns, other=1.0).to(tl.float32)
    return cosine[None, :], tl.load(SIN + place + pair, mask=turns, other=0.0).to(tl.float32)[None, :]


@jit
def unit(a, b, live, eps, D: tl.constexpr):
    """x̂ and r of each head; where there is none, r is finite though ε may be 0."""
    square = (tl.sum(a * a, axis=1) + tl.sum(b * b, axis=1))[:, None] / D
    r = 1.0 / tl.sqrt(tl.where(live, square, 1.0) + tl.cast(eps, tl.float32))
    return a * r, b * r, r


@jit(do_not_specialize=("T", "HQ", "HK"))
def forward_kernel(
    Q, K, COS, SIN, WQ, WK, YQ, YK, q_b, q_t, q_h, k_b, k_t, k_h, c_b, c_t, T, HQ, HK, eps,
    D: tl.constexpr, R: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr,
    NORM: tl.constexpr, GEMMA: tl.constexpr, BACK: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Some heads of one token, all of q or all of k, a program. BACK turns the other way, which is the backward pass without norms."""
    token, block, of_q = tl.program_id(0), tl.program_id(1), tl.program_id(1) < tl.cdiv(HQ, HEADS)
    batch = (token // T).to(tl.int64)
    time = token - batch * T
    heads = tl.where(of_q, HQ, HK)
    head = (tl.where(of_q, block, block - tl.cdiv(HQ, HEADS)) * HEADS + tl.arange(0, HEADS)).to(tl.int64)[:, None]
    first, second, there = pairs(D, R, HALF)
    live = (head < heads) & there[None, :]
    cosine, sine = angle(COS, SIN, batch * c_b + time * c_t, there, R, HALF)
    if BACK:
        sine = -sine
    x = tl.where(of_q, Q + batch * q_b + time * q_t, K + batch * k_b + time * k_t) + head * tl.where(of_q, q_h, k_h)
    a = tl.load(x + first[None, :], mask=live, other=0.0).to(tl.float32)
    b = tl.load(x + second[None, :], mask=live, other=0.0).to(tl.float32)
    if NORM:
        W = tl.where(of_q, WQ, WK)
        wa = tl.load(W + first, mask=there, other=0.0).to(tl.float32)[None, :]
        wb = tl.load(W + second, mask=there, other=0.0).to(tl.float32)[None, :]
        a, b, _ = unit(a, b, head < heads, eps, D)
        if GEMMA:
            a, b = a * (1.0 + wa), b * (1.0 + wb)
        else:
            a, b = a.to(TYPE).to(tl.float32) * wa, b.to(TYPE).to(tl.float32) * wb
    y = tl.where(of_q, YQ, YK) + (token.to(tl.int64) * heads + head) * D
    tl.store(y + first[None, :], a * cosine - b * sine, mask=live)
    tl.store(y + second[None, :], b * cosine + a * sine, mask=live)


@jit(do_not_specialize=("tokens", "T", "HQ", "HK", "each"))
def backward_kernel(
    GQ, GK, Q, K, COS, SIN, WQ, WK, DQ, DK, DW,
    gq_b, gq_t, gq_h, gk_b, gk_t, gk_h, q_b, q_t, q_h, k_b, k_t, k_h, c_b, c_t, tokens, T, HQ, HK, each, eps,
    D: tl.constexpr, R: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr,
    GEMMA: tl.constexpr, TYPE: tl.constexpr, NEED_DW: tl.constexpr,
):  # fmt: skip
    """The same heads of `each` tokens a program, which sums their share of dw in registers and writes it once, into its own line of DW."""
    program, block, of_q = tl.program_id(0), tl.program_id(1), tl.program_id(1) < tl.cdiv(HQ, HEADS)
    heads = tl.where(of_q, HQ, HK)
    head = (tl.where(of_q, block, block - tl.cdiv(HQ, HEADS)) * HEADS + tl.arange(0, HEADS)).to(tl.int64)[:, None]
    first, second, there = pairs(D, R, HALF)
    W = tl.where(of_q, WQ, WK)
    wa = tl.load(W + first, mask=there, other=0.0).to(tl.float32)[None, :]
    wb = tl.load(W + second, mask=there, other=0.0).to(tl.float32)[None, :]
    if GEMMA:
        wa, wb = 1.0 + wa, 1.0 + wb
    dwa, dwb = tl.zeros((HEADS, HALF), tl.float32), tl.zeros((HEADS, HALF), tl.float32)
    for turn in range(0, each):
        token = program * each + turn
        batch = (token // T).to(tl.int64)
        time = token - batch * T
        here = (head < heads) & (token + head * 0 < tokens)  # a block, because the interpreter takes no block & scalar
        live = here & there[None, :]
        cosine, sine = angle(COS, SIN, batch * c_b + time * c_t, there & (token + first * 0 < tokens), R, HALF)
        x = tl.where(of_q, Q + batch * q_b + time * q_t, K + batch * k_b + time * k_t) + head * tl.where(of_q, q_h, k_h)
        a = tl.load(x + first[None, :], mask=live, other=0.0).to(tl.float32)
        b = tl.load(x + second[None, :], mask=live, other=0.0).to(tl.float32)
        g = tl.where(of_q, GQ + batch * gq_b + time * gq_t, GK + batch * gk_b + time * gk_t) + head * tl.where(of_q, gq_h, gk_h)
        ya = tl.load(g + first[None, :], mask=live, other=0.0).to(tl.float32)
        yb = tl.load(g + second[None, :], mask=live, other=0.0).to(tl.float32)
        ga, gb = ya * cosine + yb * sine, yb * cosine - ya * sine
        a, b, r = unit(a, b, here, eps, D)
        if NEED_DW:
            dwa += ga * a if GEMMA else ga * a.to(TYPE).to(tl.float32)
            dwb += gb * b if GEMMA else gb * b.to(TYPE).to(tl.float32)
        ga, gb = ga * wa, gb * wb
        common = ((tl.sum(ga * a, axis=1) + tl.sum(gb * b, axis=1)) / D)[:, None]
        dx = tl.where(of_q, DQ, DK) + (token.to(tl.int64) * heads + head) * D
        tl.store(dx + first[None, :], r * (ga - a * common), mask=live)
        tl.store(dx + second[None, :], r * (gb - b * common), mask=live)
    if NEED_DW:
        line = DW + (program.to(tl.int64) * tl.num_programs(1) + block) * D
        tl.store(line + first, tl.sum(dwa, axis=0), mask=there)
        tl.store(line + second, tl.sum(dwb, axis=0), mask=there)


def launch(d: int) -> Launch:
    """For heads of d numbers: eight of each half to a thread, which is one load of 128 bits in bfloat16."""
    half = power_of_2(d // 2)
    return Launch(warps=max(1, min(8, HEADS * half // 256)), tiles={"HALF": half, "HEADS": HEADS})


def variants() -> Iterator[Variant]:
    """What is compiled ahead of time: the heads of Llama-3.2-1B, Qwen3, Gemma-3-1B and Phi-4-mini."""
    types = dict.fromkeys(("Q", "K", "COS", "SIN", "WQ", "WK", "YQ", "YK", "GQ", "GK", "DQ", "DK"), "*bf16")
    types |= {"DW": "*fp32", "eps": "fp32"}
    strides = ("c_b", "c_t", *(f"{name}_{along}" for name in ("q", "k", "gq", "gk") for along in "bth"))
    types |= dict.fromkeys((*strides, "tokens", "T", "HQ", "HK", "each"), "i32")
    for d, turned, norm in ((64, 64, False), (128, 128, True), (256, 256, True), (128, 96, False)):
        kind = {"D": d, "R": turned, "GEMMA": d == 256, "TYPE": FLOATS[torch.bfloat16]}
        yield Variant(forward_kernel, types, kind | {"NORM": norm, "BACK": d != turned}, launch(d), strides, wide=True)
        if norm:
            yield Variant(backward_kernel, types, kind | {"NEED_DW": d == 128}, launch(d), strides, wide=True)


@torch.library.custom_op("workbench::qk_rope", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_norm: Tensor | None, k_norm: Tensor | None, eps: float, gemma: bool, back: bool
) -> tuple[Tensor, Tensor]:
    """q and k turned, or turned back; cos and sin (B, T, R)."""
    (batch, time, hq, _), hk, (yq, yk) = q.shape, k.shape[2], _alike(q, k)
    settings = {"NORM": q_norm is not None, "GEMMA": gemma, "BACK": back, **_settings(q, cos)}
    forward_kernel[(batch * time, cdiv(hq, HEADS) + cdiv(hk, HEADS))](
        q, k, cos, sin, q_norm, k_norm, yq, yk, *q.stride()[:3], *k.stride()[:3], *cos.stride()[:2], time, hq, hk, eps, **settings
    )  # fmt: skip
    return yq, yk


@_forward.register_fake
def _(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_norm: Tensor | None, k_norm: Tensor | None, eps: float, gemma: bool, back: bool
) -> tuple[Tensor, Tensor]:
    return _alike(q, k)


@torch.library.custom_op("workbench::qk_rope_backward", mutates_args=())
def _backward(
    gq: Tensor, gk: Tensor, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_norm: Tensor, k_norm: Tensor,
    eps: float, gemma: bool, need_dw: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk like q and k, and the two dw (D,) in float32, which are empty where they are not needed."""
    (batch, time, hq, d), hk, (dq, dk) = q.shape, k.shape[2], _alike(q, k)
    tokens, of_q, of_k = batch * time, cdiv(hq, HEADS), cdiv(hk, HEADS)
    programs = min(tokens, 3 if interpreted() else cdiv(PROGRAMS, of_q + of_k)) if need_dw else tokens
    partial = q.new_empty(programs if need_dw else 0, of_q + of_k, d, dtype=torch.float32)
    settings, each = {"GEMMA": gemma, "NEED_DW": need_dw, **_settings(q, cos)}, cdiv(tokens, programs)
    strides = (*gq.stride()[:3], *gk.stride()[:3], *q.stride()[:3], *k.stride()[:3], *cos.stride()[:2])
    backward_kernel[(programs, of_q + of_k)](
        gq, gk, q, k, cos, sin, q_norm, k_norm, dq, dk, partial, *strides, tokens, time, hq, hk, each, eps, **settings
    )  # fmt: skip
    if need_dw:
        return dq, dk, partial[:, :of_q].sum((0, 1)), partial[:, of_q:].sum((0, 1))
    return dq, dk, partial.new_empty(0), partial.new_empty(0)


@_backward.register_fake
def _(
    gq: Tensor, gk: Tensor, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_norm: Tensor, k_norm: Tensor,
    eps: float, gemma: bool, need_dw: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return *_alike(q, k), *(q.new_empty(q.shape[3] if need_dw else 0, dtype=torch.float32) for _ in range(2))


def _alike(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q, memory_format=torch.contiguous_format), torch.empty_like(k, memory_format=torch.contiguous_format)


def _settings(q: Tensor, cos: Tensor) -> dict[str, object]:
    return {
        "D": q.shape[3],
        "R": cos.shape[2],
        "TYPE": FLOATS[q.dtype],
        **tuned("qk_rope", q.device, launch(q.shape[3]), q.shape[3]).options(),
    }


class Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_norm: Tensor | None, k_norm: Tensor | None, eps: float, gemma: bool):
        ctx.save_for_backward(*((q, k) if q_norm is not None else (None, None)), cos, sin, q_norm, k_norm)
        ctx.eps, ctx.gemma = eps, gemma
        return _forward(q, k, cos, sin, q_norm, k_norm, eps, gemma, False)

    @staticmethod
    def backward(ctx, gq: Tensor, gk: Tensor):
        q, k, cos, sin, q_norm, k_norm = ctx.saved_tensors
        gq, gk, (need_q, need_k) = _whole(gq), _whole(gk), ctx.needs_input_grad[4:6]
        if q is None:
            return *_forward(gq, gk, cos, sin, None, None, 0.0, False, True), None, None, None, None, None, None
        dq, dk, dwq, dwk = _backward(gq, gk, q, k, cos, sin, q_norm, k_norm, ctx.eps, ctx.gemma, need_q or need_k)
        dwq, dwk = dwq.to(q_norm.dtype) if need_q else None, dwk.to(k_norm.dtype) if need_k else None
        return dq, dk, None, None, dwq, dwk, None, None


def qk_rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor,
    q_norm: Tensor | None = None, k_norm: Tensor | None = None, eps: float = 0.0, gemma: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """q (B, T, Hq, D) and k (B, T, Hk, D), normed where weights are given, and turned; see the module's docstring."""
    if pick(q) == "reference" or not _fits(q, k, cos, sin, q_norm, k_norm):
        return reference(q, k, cos, sin, q_norm, k_norm, eps, gemma)
    cos, sin = cos.expand(*q.shape[:2], -1), sin.expand(*q.shape[:2], -1)
    if cos.stride() != sin.stride() or cos.stride(-1) != 1:
        cos, sin = cos.contiguous(), sin.contiguous()
    norms = (None, None) if q_norm is None else (q_norm.contiguous(), k_norm.contiguous())
    return Turned.apply(_whole(q), _whole(k), cos, sin, *norms, eps, gemma)


def _fits(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_norm: Tensor | None, k_norm: Tensor | None) -> bool:
    """Whether the kernel is made for these; what it is not made for, the reference computes or refuses."""
    d, turned, weights = q.shape[-1], cos.shape[-1], [w for w in (q_norm, k_norm) if w is not None]
    shapes = k.shape[:2] == q.shape[:2] and k.shape[3] == d and sin.shape[-1] == turned and all(w.shape == (d,) for w in weights)
    types = all(x.dtype == q.dtype for x in (k, *weights)) and all(x.dtype in FLOATS for x in (q, cos, sin))
    return shapes and types and len(weights) != 1 and d % 2 == turned % 2 == 0 and turned <= d and q.numel() > 0 and k.numel() > 0


def _whole(x: Tensor) -> Tensor:
    """x, copied only where the numbers of a head do not lie side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()
