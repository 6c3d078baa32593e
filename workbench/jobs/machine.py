"""What this machine has and what is in use, in bytes; the GPU's memory where there is one, else the process's."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SMALL = 30_000_000  # parameters: below, a matrix is too small to be worth sharing between cores


def share_cores(model: PreTrainedModel, processes: int = 1) -> None:
    """Give a small model one core and a large one all of them, or its part where several processes work (process-wide, as torch has it).

    Threads wait for each other at every operation. For the demo model two were 1.2 times as fast as one on two idle cores,
    and several times slower as soon as the page's browser wanted one of them.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    torch.set_num_threads(1 if parameters < SMALL else max(1, (os.cpu_count() or 1) // processes))


@contextmanager
def on_one_core() -> Iterator[None]:
    """For the length of a `with`, this thread's work on tensors stays on one core.

    For what is read and written piece by piece: threads that wait for each other at every piece made a merge three times as slow as one
    beside another busy process, and took four times its CPU time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_total() -> int:
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else psutil.virtual_memory().total


def memory_used() -> int:
    """The most this process held on the GPU so far, or what it holds in main memory now."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss


def readout() -> dict[str, float | int | str]:
    """What the page's title line shows."""
    memory = psutil.virtual_memory()
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    return {"device": device, "cores": os.cpu_count() or 1, "used": memory.total - memory.available, "total": memory.total}


@dataclass(frozen=True)
class Gpu:
    """The GPU's own figures from NVIDIA's management library (package nvidia-ml-py), where both are there."""

    library: Any = None
    handle: Any = None

    @classmethod
    def here(cls) -> Gpu:
        """The GPU that torch computes on; without one, or without the library, one that has nothing to tell."""
        if not torch.cuda.is_available():
            return cls()
        try:
            library = importlib.import_module("pynvml")
        except ImportError:
            return cls()
        try:
            library.nvmlInit()
            return cls(library, library.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}"))
        except library.NVMLError:  # a container without the driver's library
            return cls()

    def figures(self) -> dict[str, float]:
        """Share of the time that it was busy in percent, watts, and degrees Celsius; what this GPU does not tell is left out."""
        found: dict[str, float] = {}
        for name, figure in (("gpu_busy", self._busy), ("gpu_watts", self._watts), ("gpu_celsius", self._celsius)):
            if self.library is not None:
                try:
                    found[name] = float(figure())
                except self.library.NVMLError:
                    continue
        return found

    def _busy(self) -> float:
        return self.library.nvmlDeviceGetUtilizationRates(self.handle).gpu

    def _watts(self) -> float:
        return self.library.nvmlDeviceGetPowerUsage(self.handle) / 1000

    def _celsius(self) -> float:
        return self.library.nvmlDeviceGetTemperature(self.handle, self.library.NVML_TEMPERATURE_GPU)
