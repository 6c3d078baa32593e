"""What this machine has and what is in use, in bytes; the GPU's memory where there is one, else the process's."""

import os

import psutil
import torch


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
