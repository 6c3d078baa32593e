"""Entropic optimal transport between two histograms by Sinkhorn's iterations on logarithms, for a batch of cost matrices.

    P = argmin ⟨P, C⟩ + ε·KL(P ‖ a bᵀ)  where P ≥ 0, its rows add up to a and its columns to b           arXiv:1306.0895, ε = 1/λ
    P_ij = a_i·b_j·exp((f_i + g_j − C_ij)/ε)
    f_i ← −ε·log Σ_j b_j·exp((g_j − C_ij)/ε)   and then   g_j ← −ε·log Σ_i a_i·exp((f_i − C_ij)/ε), until neither moves

On logarithms nothing underflows, however small ε; a place without mass takes part in nothing but has its potential. For ε → 0, P is an
optimal assignment where a and b are even, M = N and one assignment is the best; for ε → ∞ it is a bᵀ.

Shapes: C (…, M, N) in float32, bfloat16 or float16, with any strides · a (…, M) and b (…, N), each adding up to 1 · f (…, M) and g (…, N)
float32. No gradient passes: by the envelope theorem the cost's is P, and those of a and b are f and g up to a constant. Bytes: C is read
twice an iteration, once along its rows and once along its columns; nothing of its size is written. A tile of sums has one program, so
that two runs are alike to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from workbench_kernels.parts import FLOATS, NEG, Launch, Variant, cdiv, jit, tl
from workbench_kernels.road import pick
from workbench_kernels.tuned import tuned

EVERY = 8  # iterations between two looks at how far g moved: a GPU would stand still for each
Transform = Callable[[Tensor, Tensor, Tensor, float], Tensor]


class Potentials(NamedTuple):
    """What it is worth to have mass at a place, up to one constant that f gains and g loses."""

    f: Tensor
    g: Tensor


def transform_reference(cost: Tensor, potential: Tensor, masses: Tensor, blur: float) -> Tensor:
    """The specification of `transform`; float64 stays what it is."""
    wide = cost if cost.dtype == torch.float64 else cost.float()
    return -blur * ((potential[..., None, :] - wide) / blur + masses.log()[..., None, :]).logsumexp(-1)


def reference(cost: Tensor, a: Tensor, b: Tensor, blur: float, tolerance: float, most: int) -> Potentials:
    """The specification of `sinkhorn`."""
    return _iterated(cost, a, b, blur, tolerance, most, transform_reference)


@jit
def transform_kernel(
    COST, POTENTIAL, LOGS, OUT, stride_batch, stride_row, stride_column, ROWS, COLUMNS, rate,
    BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A tile of rows of one matrix a program, with all its columns in turn. rate = 1/ε. With the strides exchanged, rows are columns."""
    tiles = tl.cdiv(ROWS, BLOCK_ROWS)
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    row = (tl.program_id(0) % tiles).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    rate = tl.cast(rate, tl.float32)
    start = COST + batch * stride_batch + row[:, None] * stride_row
    highest = tl.full((BLOCK_ROWS,), NEG, tl.float32)
    total = tl.zeros((BLOCK_ROWS,), tl.float32)
    for first in range(0, COLUMNS, BLOCK):
        column = (first + tl.arange(0, BLOCK)).to(tl.int64)
        there = column < COLUMNS
        potential = tl.load(POTENTIAL + batch * COLUMNS + column, mask=there, other=0.0)
        log = tl.load(LOGS + batch * COLUMNS + column, mask=there, other=NEG)
        both = (row < ROWS)[:, None] & there[None, :]
        cost = tl.load(start + column[None, :] * stride_column, mask=both, other=0.0).to(tl.float32)
        z = (potential[None, :] - cost) * rate + log[None, :]
        higher = tl.maximum(highest, tl.max(z, axis=1))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(z - higher[:, None]), axis=1)
        highest = higher
    tl.store(OUT + batch * ROWS + row, -(highest + tl.log(total)) / rate, mask=row < ROWS)


def launch(along: bool) -> Launch:
    """`along`: the columns of a row lie beside each other in memory; else the rows of a column do."""
    return Launch(tiles={"BLOCK_ROWS": 4, "BLOCK": 512} if along else {"BLOCK_ROWS": 32, "BLOCK": 64})


def variants() -> Iterator[Variant]:
    """What is compiled ahead of time: both directions over a float32 cost."""
    pointers = dict.fromkeys(("COST", "POTENTIAL", "LOGS", "OUT"), "*fp32")
    scalars = dict.fromkeys(("stride_batch", "stride_row", "stride_column", "ROWS", "COLUMNS"), "i32") | {"rate": "fp32"}
    for along, one, other in ((True, "stride_column", "stride_row"), (False, "stride_row", "stride_column")):
        aligned = ("stride_batch", other, "ROWS", "COLUMNS")
        yield Variant(transform_kernel, pointers | scalars, {one: 1}, launch(along), aligned, wide=True)


@torch.library.custom_op("workbench::sinkhorn_transform", mutates_args=())
def _transform(cost: Tensor, potential: Tensor, logs: Tensor, blur: float) -> Tensor:
    """(B, M) of a cost (B, M, N), with the potential and the logarithms of the masses (B, N)."""
    batch, rows, columns = cost.shape
    found, along = cost.new_empty(batch, rows, dtype=torch.float32), cost.stride(2) == 1
    settings = tuned("sinkhorn", cost.device, launch(along), along).options()
    if found.numel():
        transform_kernel[(batch * cdiv(rows, settings["BLOCK_ROWS"]),)](
            cost, potential, logs, found, *cost.stride(), rows, columns, 1 / blur, **settings
        )  # fmt: skip
    return found


@_transform.register_fake
def _(cost: Tensor, potential: Tensor, logs: Tensor, blur: float) -> Tensor:
    return cost.new_empty(cost.shape[:2], dtype=torch.float32)


@torch.no_grad()
def transform(cost: Tensor, potential: Tensor, masses: Tensor, blur: float) -> Tensor:
    """(…, M): f for a g (…, N) and its masses b (…, N); or g for f and a, of the cost's transpose. One half of an iteration."""
    if pick(cost) == "reference" or cost.dtype not in FLOATS:
        return transform_reference(cost, potential, masses, blur)
    *batch, rows, columns = cost.shape
    given = (each.float().expand(*batch, columns).reshape(-1, columns).contiguous() for each in (potential, masses.log()))
    return _transform(cost.reshape(-1, rows, columns), *given, blur).view(*batch, rows)


@torch.no_grad()
def sinkhorn(cost: Tensor, a: Tensor, b: Tensor, blur: float, tolerance: float, most: int) -> Potentials:
    """f and g after `most` iterations, or fewer once no g of the whole batch moves by more than `tolerance`, which is looked at every
    `EVERY` iterations. f is the answer to g: the rows of P add up to a, and its columns to b as far as that goes; see the docstring above.
    """
    return _iterated(cost, a, b, blur, tolerance, most, transform)


def plan(cost: Tensor, a: Tensor, b: Tensor, blur: float, potentials: Potentials) -> Tensor:
    """P (…, M, N): how much mass goes from where to where."""
    within = potentials.f[..., :, None] + potentials.g[..., None, :] - cost
    return a[..., :, None] * b[..., None, :] * (within / blur).exp()


def _iterated(cost: Tensor, a: Tensor, b: Tensor, blur: float, tolerance: float, most: int, transform: Transform) -> Potentials:
    g = torch.zeros(*cost.shape[:-2], cost.shape[-1], dtype=torch.promote_types(cost.dtype, torch.float32), device=cost.device)
    f = transform(cost, g, b, blur)
    for turn in range(1, most + 1):
        before, g = g, transform(cost.mT, f, a, blur)
        f = transform(cost, g, b, blur)
        if turn % EVERY == 0 and bool((g - before).abs().le(tolerance).all()):
            break
    return Potentials(f, g)
