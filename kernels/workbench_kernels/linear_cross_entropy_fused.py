"""The Triton kernels of `linear_cross_entropy`, whose docstring has the formulas and the shapes.

    rows        the products of a chunk are there: one sweep over a row for its state, another to write (p − onehot)·cap′
    statistics  the state of every row from tiles of products that are never stored; the vocabulary is split over programs
    slopes      dz of all rows for a slab of the vocabulary, from tiles of products that are computed once more

The state of a row is m = max z, z_y, and over all tokens but the label s = Σ e^(z−m) and t = Σ e^(z−m)·(z−m). Two parts of the
vocabulary join with m the greater of theirs and a = e^(m₁−m):  s = a·s₁ + …,  t = a·(t₁ + (m₁−m)·s₁) + …  (arXiv:1805.02867; t is ours).
The label stays out of the sums, so that 1 − p_y keeps its digits when p_y is almost 1. Parts are joined and slabs are added in a fixed
order: two runs are alike to the bit. Bytes a logit: `rows` reads 4 twice and writes e, `slopes` writes e, `statistics` none.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from workbench_kernels.parts import CACHED, NEG, PROGRAMS, Launch, Variant, cdiv, dot, exact, jit, place, tanh, tl
from workbench_kernels.road import interpreted
from workbench_kernels.tuned import tuned

SLAB = 2**28  # bytes of dz at a time
STATE = ("Y", "TOP", "REST", "MOMENT", "OWN")  # may begin anywhere in their buffers


@jit
def capped(z, BIAS, column, there, scale, cap, HAS_BIAS: tl.constexpr, CAPPED: tl.constexpr):
    """z of a product, for columns along its last dimension."""
    z = z.to(tl.float32) * tl.cast(scale, tl.float32)
    if HAS_BIAS:
        z += tl.load(BIAS + column, mask=there, other=0.0).to(tl.float32)
    if CAPPED:
        z = tl.cast(cap, tl.float32) * tanh(z / tl.cast(cap, tl.float32))
    return z


@jit
def logits(
    H, W, BIAS, row, column, D, stride_h, stride_w, scale, cap,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, HAS_BIAS: tl.constexpr, CAPPED: tl.constexpr,
    UP: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """A tile (BM, BN) of z, for rows and columns that are there."""
    total = tl.zeros((BM, BN), tl.float32)
    step = tl.arange(0, BD)
    for start in range(0, D, BD):
        k = start + step
        h = tl.load(H + row[:, None] * stride_h + k[None, :], mask=(k < D)[None, :], other=0.0)
        w = tl.load(W + column[None, :] * stride_w + k[:, None], mask=(k < D)[:, None], other=0.0)
        total = dot(h, w, total, UP, PREC)
    return capped(total, BIAS, column[None, :], (column >= 0)[None, :], scale, cap, HAS_BIAS, CAPPED)


@jit(do_not_specialize=STATE)
def rows_kernel(
    Z, G, BIAS, Y, TOP, REST, MOMENT, OWN, V, stride_z, stride_g, scale, cap,
    BLOCK: tl.constexpr, HAS_BIAS: tl.constexpr, CAPPED: tl.constexpr, ENTROPY: tl.constexpr,
):  # fmt: skip
    """One row a program; G may be Z."""
    row = tl.program_id(0).to(tl.int64)
    y = tl.load(Y + row)
    own = capped(tl.load(Z + row * stride_z + y), BIAS, y, y < V, scale, cap, HAS_BIAS, CAPPED)
    top, rest, moment = own, own * 0.0, own * 0.0
    step = tl.arange(0, BLOCK)
    for start in range(0, V, BLOCK):
        column = start + step
        z = tl.load(Z + row * stride_z + column, mask=column < V, other=0.0)
        z = tl.where(column < V, capped(z, BIAS, column, column < V, scale, cap, HAS_BIAS, CAPPED), NEG)
        new = tl.maximum(top, tl.max(z, axis=0))
        u = z - new
        e = tl.where(column == y, 0.0, tl.exp(u))
        keep = tl.exp(top - new)
        if ENTROPY:
            moment = keep * (moment + (top - new) * rest) + tl.sum(e * u, axis=0)
        rest = keep * rest + tl.sum(e, axis=0)
        top = new
    share = 1.0 / (rest + tl.exp(own - top))
    for start in range(0, V, BLOCK):
        column = start + step
        z = tl.load(Z + row * stride_z + column, mask=column < V, other=0.0)
        z = tl.where(column < V, capped(z, BIAS, column, column < V, scale, cap, HAS_BIAS, CAPPED), top)
        g = tl.where(column == y, -rest, tl.exp(z - top)) * share
        if CAPPED:
            g *= 1.0 - (z / tl.cast(cap, tl.float32)) * (z / tl.cast(cap, tl.float32))
        tl.store(G + row * stride_g + column, g, mask=column < V)
    tl.store(TOP + row, top)
    tl.store(REST + row, rest)
    tl.store(MOMENT + row, moment)
    tl.store(OWN + row, own)


@jit(do_not_specialize=(*STATE, "N", "blocks", "parts", "group", "tiles"))
def statistics_kernel(
    H, W, BIAS, Y, TOP, REST, MOMENT, OWN, N, V, D, stride_h, stride_w, scale, cap, blocks, parts, group, tiles,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, HAS_BIAS: tl.constexpr, CAPPED: tl.constexpr, ENTROPY: tl.constexpr,
    UP: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """BM rows and `tiles` tiles of the vocabulary a program; their states go into a line of their own for each part."""
    block, part = place(tl.program_id(0).to(tl.int64), blocks, parts, group)
    row, step = block * BM + tl.arange(0, BM), tl.arange(0, BN)
    live = tl.minimum(row, N - 1)  # rows and columns beyond the last repeat it, so that only k needs a mask
    y = tl.load(Y + live)
    top = tl.zeros((BM,), tl.float32) + NEG
    rest, moment, own = tl.zeros((BM,), tl.float32), tl.zeros((BM,), tl.float32), tl.zeros((BM,), tl.float32)
    for tile in range(part * tiles, tl.minimum((part + 1) * tiles, tl.cdiv(V, BN))):
        column = tl.minimum(tile * BN + step, V - 1)
        z = logits(H, W, BIAS, live, column, D, stride_h, stride_w, scale, cap, BM, BN, BD, HAS_BIAS, CAPPED, UP, PREC)
        z = tl.where((step < V - tile * BN)[None, :], z, NEG)
        label = step[None, :] == (y - tile * BN).to(tl.int32)[:, None]
        new = tl.maximum(top, tl.max(z, axis=1))
        u = z - new[:, None]
        e = tl.where(label, 0.0, tl.exp(u))
        keep = tl.exp(top - new)
        if ENTROPY:
            moment = keep * (moment + (top - new) * rest) + tl.sum(e * u, axis=1)
        rest = keep * rest + tl.sum(e, axis=1)
        own += tl.sum(tl.where(label, z, 0.0), axis=1)
        top = new
    line = part * N + row
    tl.store(TOP + line, top, mask=row < N)
    tl.store(REST + line, rest, mask=row < N)
    tl.store(MOMENT + line, moment, mask=row < N)
    tl.store(OWN + line, own, mask=row < N)


@jit(do_not_specialize=("N", "start", "blocks", "tiles", "group"))
def slopes_kernel(
    H, W, BIAS, Y, LSE, SHIFT, OTHERS, AT_Y, G_H, G, N, V, D, stride_h, stride_w, stride_g, start, scale, cap, blocks, tiles, group,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, HAS_BIAS: tl.constexpr, CAPPED: tl.constexpr, ENTROPY: tl.constexpr,
    UP: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """A tile of dz a program, for the vocabulary from `start`; SHIFT is H − lse."""
    block, tile = place(tl.program_id(0).to(tl.int64), blocks, tiles, group)
    row, inside = block * BM + tl.arange(0, BM), tile * BN + tl.arange(0, BN)
    live, column = tl.minimum(row, N - 1), tl.minimum(start + inside, V - 1)
    z = logits(H, W, BIAS, live, column, D, stride_h, stride_w, scale, cap, BM, BN, BD, HAS_BIAS, CAPPED, UP, PREC)
    label = tl.arange(0, BN)[None, :] == (tl.load(Y + live) - start - tile * BN).to(tl.int32)[:, None]
    factor = tl.load(OTHERS + live)[:, None]
    if ENTROPY:
        factor = factor - tl.load(G_H + live)[:, None] * (z + tl.load(SHIFT + live)[:, None])
    g = tl.where(label, tl.load(AT_Y + live)[:, None], tl.exp(z - tl.load(LSE + live)[:, None]) * factor)
    if CAPPED:
        g *= 1.0 - (z / tl.cast(cap, tl.float32)) * (z / tl.cast(cap, tl.float32))
    corner = G + block * BM * stride_g + tile * BN  # 32 bits from there on: 64-bit addresses of a tile did not fit beside it
    offset = tl.arange(0, BM)[:, None] * stride_g + tl.arange(0, BN)[None, :]
    tl.store(corner + offset, g, mask=(row < N)[:, None] & (start + inside < V)[None, :])


def launch(dtype: torch.dtype) -> Launch:
    """Of the two with a matrix product. Two programs fit on a multiprocessor: one multiplies while the other exponentiates."""
    if interpreted():
        return Launch(tiles={"BM": 32, "BN": 64, "BD": 64})
    return Launch(tiles={"BM": 64, "BN": 64, "BD": 32} if dtype == torch.float32 else {"BM": 64, "BN": 128, "BD": 64})


def launch_rows() -> Launch:
    return Launch(warps=8, tiles={"BLOCK": 128 if interpreted() else 4096})


def variants() -> Iterator[Variant]:
    """What is compiled ahead of time: bfloat16, plain, and with a cap and the entropy."""
    types = dict.fromkeys(("H", "W", "G"), "*bf16") | {"Y": "*i64"} | {"scale": "fp32", "cap": "fp32"}
    types |= dict.fromkeys(("Z", "TOP", "REST", "MOMENT", "OWN", "LSE", "SHIFT", "OTHERS", "AT_Y", "G_H"), "*fp32")
    types |= dict.fromkeys(("N", "V", "D", "stride_h", "stride_w", "stride_z", "stride_g"), "i32")
    types |= dict.fromkeys(("start", "blocks", "parts", "tiles", "group"), "i32")
    aligned = ("V", "D", "stride_h", "stride_w", "stride_z", "stride_g")
    for more in (False, True):
        kind = {"BIAS": None, "HAS_BIAS": False, "CAPPED": more, "ENTROPY": more}
        yield Variant(rows_kernel, types, kind, launch_rows(), aligned, wide=True)
        for kernel in (statistics_kernel, slopes_kernel):
            yield Variant(kernel, types, kind | {"UP": False, "PREC": "tf32"}, launch(torch.bfloat16), aligned, matrix=True)


def _kind(bias: Tensor | None, softcap: float | None, entropy: bool) -> dict[str, bool]:
    return {"HAS_BIAS": bias is not None, "CAPPED": softcap is not None, "ENTROPY": entropy}


def _group(n: int, hidden: Tensor, tile: int) -> int:
    """Blocks of rows whose hidden states fit in the cache together."""
    return max(1, min(cdiv(n, tile), CACHED // (tile * hidden.shape[1] * hidden.element_size())))


def rows(
    product: Tensor, out: Tensor, y: Tensor, bias: Tensor | None, softcap: float | None, scale: float, entropy: bool, state: Tensor
) -> None:
    """From a chunk's products (C, V), its state into (4, C): m, s, t, z_y. And (p − onehot)·cap′ into `out`, which may be `product`."""
    settings = {**_kind(bias, softcap, entropy), **tuned("head_rows", product.device, launch_rows()).options()}
    strides = product.stride(0), out.stride(0)
    rows_kernel[(y.shape[0],)](product, out, bias, y, *state, product.shape[1], *strides, scale, softcap or 1.0, **settings)


def statistics(
    hidden: Tensor, weight: Tensor, y: Tensor, bias: Tensor | None, softcap: float | None, scale: float, entropy: bool
) -> Tensor:
    """m, s, t and z_y of every row, (4, N)."""
    (n, d), vocabulary, start = hidden.shape, weight.shape[0], launch(hidden.dtype)
    settings = tuned("head_statistics", hidden.device, start, hidden.dtype).options()
    blocks, columns, group = cdiv(n, settings["BM"]), cdiv(vocabulary, settings["BN"]), _group(n, hidden, settings["BM"])
    tiles = cdiv(columns, cdiv(6 if interpreted() else PROGRAMS, group))
    parts = cdiv(columns, tiles)
    top, rest, moment, own = state = torch.empty(4, parts, n, device=hidden.device)
    statistics_kernel[(blocks * parts,)](
        hidden, weight, bias, y, *state, n, vocabulary, d, hidden.stride(0), weight.stride(0), scale, softcap or 1.0,
        blocks, parts, group, tiles, **_kind(bias, softcap, entropy), **exact(hidden.dtype), **settings,
    )  # fmt: skip
    most = top.amax(0)
    keep = (top - most).exp()
    return torch.stack((most, (keep * rest).sum(0), (keep * (moment + (top - most) * rest)).sum(0), own.sum(0)))


def gradients(
    hidden: Tensor, weight: Tensor, y: Tensor, bias: Tensor | None, softcap: float | None, scale: float,
    lse: Tensor, others: Tensor, at_y: Tensor, g_h: Tensor | None, shift: Tensor | None, wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dh, dW and db in float32, a slab of the vocabulary after the other; what is not wanted comes back empty. `shift` is H − lse."""
    (n, d), vocabulary, start = hidden.shape, weight.shape[0], launch(hidden.dtype)
    settings = tuned("head_slopes", hidden.device, start, hidden.dtype).options()
    blocks, group = cdiv(n, settings["BM"]), _group(n, hidden, settings["BM"])
    dh = lse.new_zeros(n if wanted[0] else 0, d)
    dw, db = lse.new_empty(vocabulary if wanted[1] else 0, d), lse.new_empty(vocabulary if wanted[2] else 0)
    width = 128 if interpreted() else max(1024, SLAB // (n * hidden.element_size()) // 1024 * 1024)
    buffer = hidden.new_empty(n, min(width, vocabulary))
    for start in range(0, vocabulary, width):
        slab = slice(start, min(start + width, vocabulary))
        dz = buffer[:, : slab.stop - start]
        tiles = cdiv(dz.shape[1], settings["BN"])
        slopes_kernel[(blocks * tiles,)](
            hidden, weight, bias, y, lse, shift, others, at_y, g_h, dz, n, vocabulary, d, hidden.stride(0), weight.stride(0), dz.stride(0),
            start, scale, softcap or 1.0, blocks, tiles, group, **_kind(bias, softcap, g_h is not None), **exact(hidden.dtype), **settings,
        )  # fmt: skip
        if wanted[0]:
            dh += wide_mm(dz, weight[slab])
        if wanted[1]:
            dw[slab] = wide_mm(dz.T, hidden)
        if wanted[2]:
            db[slab] = dz.sum(0, dtype=torch.float32)
    return dh.mul_(scale), dw.mul_(scale), db


def wide_mm(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a @ b as it was summed, in float32. A CPU rounds it to the kind of its factors, which is fast; its interpreter does as a GPU."""
    with torch.autocast(a.device.type, enabled=False):  # its casts were made before; a backward pass may run inside another
        if a.is_cuda and a.dtype != torch.float32:
            return torch.mm(a, b, out_dtype=torch.float32, out=out)
        return torch.mm(a.float(), b.float(), out=out) if interpreted() else torch.mm(a, b, out=out)
