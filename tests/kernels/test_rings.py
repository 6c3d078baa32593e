"""The second and the third ring of every op, each in a process of its own: Triton's interpreter, and a GPU.

The interpreter replaces parts of triton.language while it runs and is not safe beside other threads, and Triton asks whether it is wanted
when a kernel is defined; so it cannot share a process with the other tests.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RINGS = sorted(path.stem for path in (HERE / "rings").glob("*.py"))
OPS = {path.stem for path in (ROOT / "kernels" / "workbench_kernels").glob("*.py") if "\n@jit" in path.read_text()} - {"parts"}


def run(ring: str, **environment: str) -> None:
    """The ring's file by a pytest of its own. Warnings are errors: the interpreter only warns of ∞ − ∞."""
    paths = os.pathsep.join(str(path) for path in (ROOT / "kernels", HERE))
    options = ["-q", "-p", "no:cacheprovider", "-W", "error::RuntimeWarning"]
    command = [sys.executable, "-m", "pytest", *options, str(HERE / "rings" / f"{ring}.py")]
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    found = subprocess.run(
        command, env=alone | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | environment, capture_output=True, text=True, cwd=ROOT
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert " passed" in found.stdout and "skipped" not in found.stdout, found.stdout[-2000:]


@pytest.mark.parametrize("ring", RINGS)
def test_in_the_interpreter(ring: str) -> None:
    pytest.importorskip("triton")
    run(ring, TRITON_INTERPRET="1", WORKBENCH_ROAD="triton")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("ring", RINGS)
def test_on_a_gpu(ring: str) -> None:
    run(ring, WORKBENCH_ROAD="triton")


def test_every_op_with_a_kernel_has_its_rings() -> None:
    ops = {op.removesuffix("_fused") for op in OPS}  # the kernels of an op whose file would be too long
    assert ops <= set(RINGS), f"ops without a file in rings/: {ops - set(RINGS)}"
