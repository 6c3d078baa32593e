"""Kernels compiled for a GPU that need not be there, and what the compiler says of them.

Triton's compiler and NVIDIA's assembler run anywhere; both come with triton. So a test can hold every kernel of the launch tables to its
registers, its memory and the instructions that it became, before any GPU has been seen. What it does not tell: whether it is fast.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from workbench_kernels.parts import Variant

CAPABILITIES = (80, 90)  # A100; H100 and H200
SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes of shared memory that one program may have


@dataclass(frozen=True)
class Built:
    """What became of a kernel: registers of a thread, bytes of its stack (registers that did not fit), bytes of shared memory, and how
    often instructions of a kind stand in it."""

    registers: int
    stack: int
    shared: int
    spills: int  # loads and stores of registers that did not fit
    doubles: int  # arithmetic in double precision
    wgmma: int  # matrix products of Hopper
    mma: int  # matrix products of Ampere
    wide_loads: int  # of 128 bits


def built(variant: Variant, capability: int) -> Built:
    """Compile for a GPU of this compute capability, 80 or 90; takes 0.3 to 5 seconds."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = variant.constants | variant.launch.tiles
    names = variant.kernel.arg_names
    signature = {name: "constexpr" if name in constants else variant.types[name] for name in names}
    known = {own.name for own in variant.kernel.params if signature[own.name].startswith("*") and not own.do_not_specialize}
    aligned = [place for place, name in enumerate(names) if name in (known | {*variant.aligned}) - {*constants}]
    own = {name: constants[name] for name in names if name in constants}
    source = ASTSource(variant.kernel, signature, own, {(place,): [["tt.divisibility", 16]] for place in aligned})
    kernel = compile(source, target=GPUTarget("cuda", capability, 32), options=variant.launch.compiler())
    return _read(kernel.asm["cubin"], kernel.metadata.shared)


def every_variant(ops: list[str]) -> Iterator[tuple[str, Variant]]:
    """What the ops' modules say that they launch on a GPU, each with a name."""
    for op in ops:
        for number, variant in enumerate(import_module(f"workbench_kernels.{op}").variants()):
            yield f"{op}-{variant.kernel.fn.__name__}-{number}", variant


def _read(cubin: bytes, shared: int) -> Built:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        usage, code = _tool("cuobjdump", "--dump-resource-usage", file), _tool("nvdisasm", "-c", file)
    return Built(
        registers=int(re.findall(r"REG:(\d+)", usage)[0]),
        stack=int(re.findall(r"STACK:(\d+)", usage)[0]),
        shared=shared,
        spills=len(re.findall(r"\b(LDL|STL)\b", code)),
        doubles=len(re.findall(r"\bD(FMA|ADD|MUL)\b", code)),
        wgmma=len(re.findall(r"\bHGMMA\b", code)),
        mma=len(re.findall(r"\bHMMA\b", code)),
        wide_loads=len(re.findall(r"\bLDG\.E\.(\w+\.)*128\b", code)),
    )


def _tool(name: str, *arguments: str | Path) -> str:
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
