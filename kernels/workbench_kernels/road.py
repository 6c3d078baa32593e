"""Which road an op takes: its plain torch reference, or the Triton kernel beside it.

Triton where the tensors lie on a GPU and Triton is there, else the reference; callers never ask. `WORKBENCH_ROAD=reference` or
`=triton` decides for the whole process, `only("reference")` for the length of a `with` (a forward-mode derivative has no other
road). A road that was forced and cannot be taken raises. Under `TRITON_INTERPRET=1` the very kernels run on CPU tensors, slowly and
one thread at a time: that is for tests, in a process of their own.
"""

import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor

Road = Literal["reference", "triton"]

THERE = importlib.util.find_spec("triton") is not None


class Forced(threading.local):
    """What `only` asks of this thread; not a ContextVar, because torch.compile follows this one."""

    road: Road | None = None


FORCED = Forced()


def pick(tensor: Tensor) -> Road:
    """The road for what lies where `tensor` lies.

    Raises:
        RuntimeError: Triton was asked for where it cannot run, or the variable says what is no road.
    """
    wanted = forced()
    runs = THERE and (tensor.is_cuda or interpreted())
    if wanted == "triton" and not runs:
        why = f"the tensors are on {tensor.device}" if THERE else "it is not installed"
        raise RuntimeError(f"The Triton road was asked for, but {why}. Unset WORKBENCH_ROAD, or move to a GPU with triton installed.")
    return "triton" if runs and wanted != "reference" else "reference"


def forced() -> Road | None:
    """The road that was asked for, if one was. Where it is the reference, only plain torch may run: no gradient of our own either."""
    wanted = FORCED.road or os.environ.get("WORKBENCH_ROAD") or None
    if wanted not in (None, "reference", "triton"):
        raise RuntimeError(f"WORKBENCH_ROAD is {wanted!r}. Set it to reference or triton, or leave it out.")
    return wanted


@contextmanager
def only(road: Road) -> Iterator[None]:
    """For the length of a `with`, every op of this thread takes this road."""
    before, FORCED.road = FORCED.road, road
    try:
        yield
    finally:
        FORCED.road = before


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter; read by Triton when a kernel is defined, so it must be set before this is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"
