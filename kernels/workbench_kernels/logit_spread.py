"""Spread of the logits' derivative along a step, streamed over the vocabulary so that no (N, V) tensor is ever held.

    z = cap(hWᵀ + b),  cap(x) = c·tanh(x/c) (Gemma 2)          a = (ḣWᵀ + hẆᵀ + ḃ)·cap′,  cap′ = 1 − (z/c)²
    Δ_a = max a − min a,   δ = max(0, log p_top − log(1 − p_top)),   Var_p(a),   p = softmax(z)          arXiv:2603.13552

For hidden states h and their derivative ḣ along a step, z are the logits and a their derivative: per token its extremes and the
tokens that have them (ρ_a = π/Δ_a), a of the likeliest token, and the variance of a under p (half of it is the KL that the step should
make). The likeliest token has weight 1 and a − a_top = 0, and stays out of the sums  s = Σ e^(z−m),  f = Σ e^(z−m)·(a − a_top),
q = Σ e^(z−m)·(a − a_top)²,  so that a nearly certain token keeps its digits:  δ = −log s,  Var = q/(1+s) − (f/(1+s))².

One sweep is enough. Where a token becomes the likeliest, the former one joins the sums, with κ = e^(m−m′) and d = a_top − a_top′:
s′ = κ(s+1),  f′ = κ(f + (s+1)d),  q′ = κ(q + 2df + (s+1)d²). The same joins the parts of the vocabulary, in a fixed order (ours).

Shapes: h, ḣ (N, D) · W, Ẇ (V, D) · b, ḃ (V,) · every result (N,) float32, tokens int64; no gradient. The kernel multiplies in the kind of
W, as the model does; all else is float32. Operations: 4NVD, or 6NVD where the head moves. Bytes
of the kernel: W (and Ẇ) once for the rows that share the cache, and 36 for each row and part of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench_kernels.parts import CACHED, NEG, PROGRAMS, Launch, Variant, cdiv, dot, exact, jit, place, tanh, tl
from workbench_kernels.road import interpreted, pick
from workbench_kernels.tuned import tuned

ROWS, CHUNK = 512, 4096  # of a tile of the reference, whose products are 16 MiB
BLOCK = 2**17  # logits that it works on at a time, so that they stay in a CPU's cache
LEAST = torch.finfo(torch.float32).min  # for a top logit of −∞, where a bias forbids the whole tile
FEW = 64  # rows that a smaller tile is for
KINDS = (torch.float32, torch.bfloat16)  # of W; in float16 the derivative along a small step would lose its digits


@dataclass(frozen=True)
class Spread:
    """Per-token results, each (N,)."""

    highest: Tensor  # max a
    lowest: Tensor  # min a
    rises: Tensor  # token whose logit rises most
    falls: Tensor  # token whose logit falls most
    at_top: Tensor  # a of the likeliest token
    margin: Tensor  # δ = max(0, log p_top − log(1 − p_top))
    variance: Tensor  # Var_p(a)

    @property
    def width(self) -> Tensor:
        return self.highest - self.lowest


@torch.no_grad()
def reference(
    hidden: Tensor,
    hidden_dot: Tensor,
    weight: Tensor,
    weight_dot: Tensor | None = None,
    bias: Tensor | None = None,
    bias_dot: Tensor | None = None,
    softcap: float | None = None,
) -> Spread:
    """The specification, in plain torch: the state of each tile of the vocabulary, and from them that of all."""
    hidden, hidden_dot = (one if one.dtype == torch.float64 else one.float() for one in (hidden, hidden_dot))
    n, starts = hidden.shape[0], range(0, weight.shape[0], CHUNK)
    numbers = hidden.new_empty(7, len(starts), n)
    tokens = hidden.new_empty(2, len(starts), n, dtype=torch.long)
    for part, start in enumerate(starts):
        head = [None if one is None else one[start : start + CHUNK].to(hidden.dtype) for one in (weight, weight_dot, bias, bias_dot)]
        for first in range(0, n, ROWS):
            rows = slice(first, first + ROWS)
            z, a = _tile(hidden[rows], hidden_dot[rows], *head, softcap)
            _state(z, a, numbers[:, part, rows], tokens[:, part, rows])
        tokens[:, part] += start
    return Spread(*_joined(numbers, tokens))


def _state(z: Tensor, a: Tensor, numbers: Tensor, tokens: Tensor) -> None:
    """Of a tile: the extremes of a, the top logit with its a, s, f and q; and the tokens of the extremes. z and a are written over."""
    highest, lowest, top, at_top, rest, first, second = numbers
    each = max(1, BLOCK // z.shape[1])
    for some in (slice(start, start + each) for start in range(0, len(z), each)):
        logits, slopes = z[some], a[some]
        highest[some], tokens[0, some] = slopes.max(1)
        lowest[some], tokens[1, some] = slopes.min(1)
        best, own = logits.max(1, keepdim=True)
        its = slopes.gather(1, own)
        top[some], at_top[some] = best[:, 0], its[:, 0]
        p, slopes = logits.sub_(best.clamp_min(LEAST)).exp_().scatter_(1, own, 0), slopes.sub_(its)
        rest[some] = p.sum(1)
        first[some] = p.mul_(slopes).sum(1)
        second[some] = p.mul_(slopes).sum(1)


def _moments(rest: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """δ and the variance from s, f and q."""
    margin = (-rest.clamp_min(torch.finfo(torch.float32).tiny).log()).clamp_min(0)
    return margin, (second / (1 + rest) - (first / (1 + rest)) ** 2).clamp_min(0)


@jit(do_not_specialize=("N", "blocks", "parts", "group", "tiles"))
def forward_kernel(
    H, H_DOT, W, W_DOT, BIAS, BIAS_DOT, NUMBERS, TOKENS, N, V, D, stride_w, stride_w_dot, cap, blocks, parts, group, tiles,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, MOVES: tl.constexpr, HAS_BIAS: tl.constexpr, BIAS_MOVES: tl.constexpr,
    CAPPED: tl.constexpr, UP: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """BM rows and `tiles` tiles of the vocabulary a program, which writes their state into a line of its own for each part."""
    block, part = place(tl.program_id(0).to(tl.int64), blocks, parts, group)
    row, step, inner = block * BM + tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BD)
    live = tl.minimum(row, N - 1)  # rows and columns beyond the last repeat it, so that only k needs a mask
    nothing = tl.zeros((BM,), tl.float32)
    top, highest, lowest = nothing + NEG, nothing + NEG, nothing - NEG
    rises, falls, at_top, rest, first, second = nothing.to(tl.int32), nothing.to(tl.int32), nothing, nothing, nothing, nothing
    for tile in range(part * tiles, tl.minimum((part + 1) * tiles, tl.cdiv(V, BN))):
        begin = tile * BN
        inside = tl.minimum(step, (V - 1 - begin).to(tl.int32))
        column = (begin + inside).to(tl.int64)
        z, a = tl.zeros((BM, BN), tl.float32), tl.zeros((BM, BN), tl.float32)
        for start in range(0, D, BD):
            k = start + inner
            h = tl.load(H + live[:, None] * D + k[None, :], mask=(k < D)[None, :], other=0.0)
            h_dot = tl.load(H_DOT + live[:, None] * D + k[None, :], mask=(k < D)[None, :], other=0.0)
            w = tl.load(W + column[None, :] * stride_w + k[:, None], mask=(k < D)[:, None], other=0.0)
            z = dot(h, w, z, UP, PREC)
            a = dot(h_dot, w, a, UP, PREC)
            if MOVES:
                w_dot = tl.load(W_DOT + column[None, :] * stride_w_dot + k[:, None], mask=(k < D)[:, None], other=0.0)
                a = dot(h, w_dot, a, UP, PREC)
        if HAS_BIAS:
            z += tl.load(BIAS + begin + inside).to(tl.float32)[None, :]
        if BIAS_MOVES:
            a += tl.load(BIAS_DOT + begin + inside).to(tl.float32)[None, :]
        if CAPPED:
            share = tanh(z / tl.cast(cap, tl.float32))
            z = share * tl.cast(cap, tl.float32)
            a *= 1.0 - share * share
        high, low = tl.max(a, axis=1), tl.min(a, axis=1)
        rises = tl.where(high > highest, begin.to(tl.int32) + tl.min(tl.where(a == high[:, None], step[None, :], BN), axis=1), rises)
        falls = tl.where(low < lowest, begin.to(tl.int32) + tl.min(tl.where(a == low[:, None], step[None, :], BN), axis=1), falls)
        highest, lowest = tl.maximum(highest, high), tl.minimum(lowest, low)
        z = tl.where((step < V - begin)[None, :], z, NEG)
        best = tl.max(z, axis=1)
        greater = best > top  # never where a bias of −∞ forbids the whole tile: top begins at NEG
        own = (step[None, :] == tl.min(tl.where(z == best[:, None], step[None, :], BN), axis=1)[:, None]) & greater[:, None]
        its = tl.where(greater, tl.sum(tl.where(own, a, 0.0), axis=1), at_top)
        keep, move, joins = tl.exp(top - tl.maximum(top, best)), at_top - its, rest + tl.where(greater, 1.0, 0.0)
        top, at_top = tl.maximum(top, best), its
        p, a = tl.where(own, 0.0, tl.exp(z - top[:, None])), a - its[:, None]
        second = keep * (second + move * (2.0 * first + joins * move)) + tl.sum(p * a * a, axis=1)
        first = keep * (first + joins * move) + tl.sum(p * a, axis=1)
        rest = keep * joins + tl.sum(p, axis=1)
    line, size, there = part * N + row, tl.cast(parts, tl.int64) * N, row < N
    tl.store(NUMBERS + line, highest, mask=there)
    tl.store(NUMBERS + size + line, lowest, mask=there)
    tl.store(NUMBERS + 2 * size + line, top, mask=there)
    tl.store(NUMBERS + 3 * size + line, at_top, mask=there)
    tl.store(NUMBERS + 4 * size + line, rest, mask=there)
    tl.store(NUMBERS + 5 * size + line, first, mask=there)
    tl.store(NUMBERS + 6 * size + line, second, mask=there)
    tl.store(TOKENS + line, tl.minimum(rises, V - 1), mask=there)
    tl.store(TOKENS + size + line, tl.minimum(falls, V - 1), mask=there)


def launch(dtype: torch.dtype, rows: int, plain: bool) -> Launch:
    """A head without bias, cap or derivative leaves registers for a tile of twice the width."""
    if interpreted():
        return Launch(tiles={"BM": 32, "BN": 64, "BD": 64})
    if dtype == torch.float32:
        return Launch(warps=8, tiles={"BM": 64, "BN": 64, "BD": 16})
    if rows <= FEW:
        return Launch(tiles={"BM": 64, "BN": 64, "BD": 64})
    return Launch(warps=8, tiles={"BM": 128, "BN": 128 if plain else 64, "BD": 64})


def variants() -> Iterator[Variant]:
    """What is compiled ahead of time: few rows and many of bfloat16, and float32, as a head has it that moves."""
    types = {"NUMBERS": "*fp32", "TOKENS": "*i32", "cap": "fp32"}
    types |= dict.fromkeys(("N", "V", "D", "stride_w", "stride_w_dot", "blocks", "parts", "group", "tiles"), "i32")
    aligned, factors = ("V", "D", "stride_w", "stride_w_dot"), ("H", "H_DOT", "W", "W_DOT", "BIAS", "BIAS_DOT")
    for dtype, rows, plain in (
        (torch.bfloat16, 64, False), (torch.bfloat16, 512, True), (torch.bfloat16, 512, False), (torch.float32, 512, False)
    ):  # fmt: skip
        half = dtype == torch.bfloat16
        kind = dict.fromkeys(("MOVES", "HAS_BIAS", "BIAS_MOVES", "CAPPED"), not plain) | {"UP": False, "PREC": "tf32" if half else "ieee"}
        kind |= dict.fromkeys(("W_DOT", "BIAS", "BIAS_DOT")) if plain else {}
        pointers = dict.fromkeys(factors, "*bf16" if half else "*fp32")
        yield Variant(forward_kernel, types | pointers, kind, launch(dtype, rows, plain), aligned, matrix=half)


@torch.library.custom_op("workbench::logit_spread", mutates_args=())
def _forward(
    hidden: Tensor, hidden_dot: Tensor, weight: Tensor, weight_dot: Tensor | None,
    bias: Tensor | None, bias_dot: Tensor | None, softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The fields of Spread, from rows without gaps and in the kind of the weight."""
    (n, d), vocabulary = hidden.shape, weight.shape[0]
    given = {"MOVES": weight_dot, "HAS_BIAS": bias, "BIAS_MOVES": bias_dot, "CAPPED": softcap}
    kind = {name: one is not None for name, one in given.items()}
    plain = not any(kind.values())
    settings = tuned("logit_spread", hidden.device, launch(hidden.dtype, n, plain), hidden.dtype, n > FEW, plain).options()
    blocks, columns = cdiv(n, settings["BM"]), cdiv(vocabulary, settings["BN"])
    group = max(1, min(blocks, CACHED // (2 * settings["BM"] * d * hidden.element_size())))
    tiles = cdiv(columns, cdiv(2 if interpreted() else PROGRAMS, group))
    parts = cdiv(columns, tiles)
    numbers, tokens = hidden.new_empty(7, parts, n, dtype=torch.float32), hidden.new_empty(2, parts, n, dtype=torch.int32)
    if n:
        forward_kernel[(blocks * parts,)](
            hidden, hidden_dot, weight, weight_dot, bias, bias_dot, numbers, tokens, n, vocabulary, d, weight.stride(0),
            0 if weight_dot is None else weight_dot.stride(0), softcap or 1.0, blocks, parts, group, tiles,
            **kind, **exact(hidden.dtype), **settings,
        )  # fmt: skip
    return _joined(numbers, tokens)


@_forward.register_fake
def _(
    hidden: Tensor, hidden_dot: Tensor, weight: Tensor, weight_dot: Tensor | None,
    bias: Tensor | None, bias_dot: Tensor | None, softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    kinds = [torch.float32] * 2 + [torch.long] * 2 + [torch.float32] * 3
    highest, lowest, rises, falls, *others = (hidden.new_empty(hidden.shape[0], dtype=kind) for kind in kinds)
    return highest, lowest, rises, falls, *others


def _joined(numbers: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of Spread from those of the parts of the vocabulary, (7, parts, N) and (2, parts, N)."""
    highest, lowest, top, at_top, rest, first, second = numbers
    best, rises, falls = (one.argmax(0, keepdim=True) for one in (top, highest, -lowest))
    its, keep = at_top.gather(0, best), (top - top.gather(0, best)).exp()
    move, joins = at_top - its, rest + torch.ones_like(rest).scatter(0, best, 0)
    s, f, q = ((keep * one).sum(0) for one in (joins, first + joins * move, second + move * (2 * first + joins * move)))
    # A maximum passes over what is no number; the sums do not.
    high, low = (torch.where(f.isfinite(), one, torch.nan) for one in (highest.amax(0), lowest.amin(0)))
    up, down = (one.gather(0, where)[0].long() for one, where in zip(tokens, (rises, falls), strict=True))
    return high, low, up, down, its[0], *_moments(s, f, q)


def logit_spread(
    hidden: Tensor,
    hidden_dot: Tensor,
    weight: Tensor,
    weight_dot: Tensor | None = None,
    bias: Tensor | None = None,
    bias_dot: Tensor | None = None,
    softcap: float | None = None,
) -> Spread:
    """The spread of a = dz along the step for every token; see the module's docstring for shapes."""
    if pick(hidden) == "reference" or weight.dtype not in KINDS or hidden.dtype == torch.float64:
        return reference(hidden, hidden_dot, weight, weight_dot, bias, bias_dot, softcap)
    rows, rows_dot = (one.to(weight.dtype).contiguous() for one in (hidden, hidden_dot))
    head, head_dot = (None if one is None else one.to(weight.dtype) for one in (weight, weight_dot))
    head, head_dot = (one if one is None or one.stride(1) == 1 else one.contiguous() for one in (head, head_dot))
    bias, bias_dot = (None if one is None else one.contiguous() for one in (bias, bias_dot))
    return Spread(*_forward(rows, rows_dot, head, head_dot, bias, bias_dot, softcap))


def _tile(
    hidden: Tensor, hidden_dot: Tensor, weight: Tensor, weight_dot: Tensor | None,
    bias: Tensor | None, bias_dot: Tensor | None, softcap: float | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """z and a for some rows and some of the vocabulary."""
    z, a = hidden @ weight.T, hidden_dot @ weight.T
    if weight_dot is not None:
        a.addmm_(hidden, weight_dot.T)
    if bias is not None:
        z += bias
    if bias_dot is not None:
        a += bias_dot
    if softcap is not None:
        z.div_(softcap).tanh_()
        a.mul_(1 - z.square())
        z.mul_(softcap)
    return z, a
