"""What the Triton kernels share: the decorator, a matrix product, a tanh, the order of tiles, and how a launch is written down.

Without Triton the kernels are plain functions that nothing calls, so their modules can be imported anywhere. The rules that let one source
run in the interpreter and on the GPU: pointers with masks; everything but the factors of a product is float32 from the load to the
single cast at the store (bf16 arithmetic is silently wrong in the interpreter); no atomics, no libdevice, no autotuning; scalars
through `tl.cast`; int64 before a program number meets a stride; finite stand-ins for infinity. What changes from batch to batch,
counts and where a slice begins, decides over no compiled kernel (`do_not_specialize`): else a run waits for the compiler whenever one of
them happens to be a multiple of 16.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from workbench_kernels.road import THERE, interpreted

if THERE:
    import triton
    import triton.language as tl

    jit = triton.jit
    FLOATS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
    NEG = tl.constexpr(-3.0e38)  # for −∞ in a running maximum: (m − m′)·s must be 0 on the first tile, and ∞ − ∞ is no number
else:
    tl, FLOATS, NEG = None, {}, None

    def jit(kernel=None, **_):
        return jit if kernel is None else kernel


PROGRAMS = 264  # that work is split for: twice the 132 multiprocessors of an H100 or H200
CACHED = 16 * 2**20  # bytes of hidden states that the programs of a group share, about a third of the level 2 cache of an H100


@dataclass(frozen=True)
class Launch:
    """How a kernel is started: warps, stages of the pipeline, and the sizes of its tiles by the names of its constants."""

    warps: int = 4
    stages: int = 3
    tiles: dict[str, int] = field(default_factory=dict)

    def options(self) -> dict[str, int | bool]:
        return {**self.tiles, **self.compiler()}

    def compiler(self) -> dict[str, int | bool]:
        """Products are fused with sums, whatever a release of Triton does by itself."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


@dataclass(frozen=True)
class Variant:
    """A kernel as it would be compiled for a GPU: `types` of its arguments as Triton writes them (*bf16, *fp32, i32, fp32), its
    constants, its launch, and which whole numbers are multiples of 16 (pointers are, unless the kernel must not know). `matrix`: whether it
    has a matrix product; `wide`: whether its loads must be 128 bits."""

    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    launch: Launch
    aligned: tuple[str, ...] = ()
    matrix: bool = False
    wide: bool = False


def cdiv(a: int, b: int) -> int:
    return -(-a // b)


def power_of_2(n: int) -> int:
    """The least power of 2 that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def exact(dtype: torch.dtype) -> dict[str, Any]:
    """The two constants of `dot` for factors of this kind: float32 is multiplied as float32, never as TF32."""
    return {"UP": interpreted(), "PREC": "ieee" if dtype == torch.float32 else "tf32"}


@jit
def dot(a, b, total, UP: tl.constexpr, PREC: tl.constexpr):
    """total + a @ b with the sum in float32; UP widens the factors first, as the interpreter needs it."""
    if UP:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PREC)


@jit
def tanh(x):
    """From the exponential of a number that is never positive, so that nothing overflows."""
    small = tl.exp(-2.0 * tl.abs(x))
    size = (1.0 - small) / (1.0 + small)
    return tl.where(x < 0, -size, size)


@jit
def place(program, blocks, others, group):
    """Block of rows and number of the other kind: programs that run together share `group` blocks of rows, and each tile of W."""
    first = program // (group * others) * group
    size = tl.minimum(blocks - first, group)
    inside = program % (group * others)
    return first + inside % size, inside // size
