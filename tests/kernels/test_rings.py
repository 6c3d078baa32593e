"""The second and the third ring of every op, in processes of their own: Triton's interpreter, and a GPU.

The interpreter replaces parts of triton.language while it runs and is not safe beside other threads, and Triton asks whether it is wanted
when a kernel is defined; so it cannot share a process with the other tests. The rings share one with each other there, because most of the
time of ten would go into importing torch; on a GPU each has its own, for what one breaks is broken for all that come after it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RINGS = sorted(path.stem for path in (HERE / "rings").glob("*.py"))
OPS = {path.stem for path in (ROOT / "kernels" / "workbench_kernels").glob("*.py") if "\n@jit" in path.read_text()} - {"parts"}
BEGIN = "from workbench.core import environment; environment.tell(); import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
"""As `conftest.py` begins, which is left out: what it imports for the others, no ring needs."""

Ran = subprocess.CompletedProcess[str]


def run(rings: Sequence[str], **environment: str) -> Ran:
    """The rings' files by a pytest of their own. Warnings are errors: the interpreter only warns of ∞ − ∞."""
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "kernels", HERE))
    options = ["-v", "--noconftest", "-p", "no:cacheprovider", "-W", "error::RuntimeWarning"]
    command = [sys.executable, "-c", BEGIN, *options, *(str(HERE / "rings" / f"{ring}.py") for ring in rings)]
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(
        command, env=alone | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | environment, capture_output=True, text=True, cwd=ROOT
    )  # fmt: skip


def judge(ring: str, found: Ran) -> None:
    """Every test of the ring has run and passed, none was skipped, and the process came to its end (1: a test failed, maybe another's)."""
    told = [line for line in found.stdout.splitlines() if line.startswith(f"tests/kernels/rings/{ring}.py::")]
    assert found.returncode in (0, 1) and told, found.stdout[-6000:] + found.stderr[-2000:]
    assert all(" PASSED " in line for line in told), found.stdout[-6000:]


@pytest.fixture(scope="module")
def interpreted(request: pytest.FixtureRequest) -> Ran:
    """All rings that are asked for, by the interpreter."""
    pytest.importorskip("triton")
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and item.originalname == "test_in_the_interpreter")
    return run(sorted(item.callspec.params["ring"] for item in items), TRITON_INTERPRET="1", WORKBENCH_ROAD="triton")


@pytest.mark.parametrize("ring", RINGS)
def test_in_the_interpreter(ring: str, interpreted: Ran) -> None:
    judge(ring, interpreted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("ring", RINGS)
def test_on_a_gpu(ring: str) -> None:
    judge(ring, run([ring], WORKBENCH_ROAD="triton"))


def test_every_op_with_a_kernel_has_its_rings() -> None:
    ops = {op.removesuffix("_fused") for op in OPS}  # the kernels of an op whose file would be too long
    assert ops <= set(RINGS), f"ops without a file in rings/: {ops - set(RINGS)}"
