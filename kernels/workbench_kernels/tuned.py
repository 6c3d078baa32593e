"""Launches that were measured on a GPU, in the place of those that the modules of the ops begin with.

`benchmarks/tune.py` measures them and writes `launches.json` beside this file. Where there is none, as in what is handed out, and for
whatever it does not name, a kernel starts as its module's `launch` says: those settings were chosen by what the compiler told of them and
by nobody's clock. By capability of the GPU, kernel, and what its launch depends on:

    {"9.0": {"glu": {"8192": {"warps": 4, "stages": 3, "tiles": {"BLOCK": 1024}}}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from workbench_kernels.parts import Launch

FILE = Path(__file__).with_name("launches.json")
Table = dict[str, dict[str, dict[str, Launch]]]


def tuned(kernel: str, on: torch.device, begins: Launch, *of: object) -> Launch:
    """How `kernel` starts on this device: as was measured for what its launch depends on, else as it begins.

    Raises:
        ValueError: the table cannot be read, or names other tiles than the kernel has.
    """
    found = table().get(capability(on), {}).get(kernel, {}).get(key(*of), begins)
    if found.tiles.keys() != begins.tiles.keys():
        raise ValueError(f"{FILE} gives {kernel} the tiles {sorted(found.tiles)}, and it has {sorted(begins.tiles)}. {AGAIN}")
    return found


def capability(on: torch.device) -> str:
    """As the table calls it; "" for what is no GPU."""
    return "{}.{}".format(*torch.cuda.get_device_capability(on)) if on.type == "cuda" else ""


def key(*of: object) -> str:
    return " ".join(str(one).removeprefix("torch.") for one in of)


@cache
def table() -> Table:
    return parsed(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def parsed(text: str) -> Table:
    """The table that a file says.

    Raises:
        ValueError: it says none.
    """
    try:
        gpus = json.loads(text)
        return {
            gpu: {kernel: {of: _launch(own) for of, own in each.items()} for kernel, each in kernels.items()}
            for gpu, kernels in gpus.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{FILE} is no table of launches ({error!r}). {AGAIN}") from error


def written(found: Table) -> str:
    """What `parsed` reads."""
    return json.dumps(
        {gpu: {kernel: {of: vars(own) for of, own in each.items()} for kernel, each in kernels.items()} for gpu, kernels in found.items()},
        indent=1,
    )


def _launch(told: Mapping[str, Any]) -> Launch:
    found = Launch(**{name: told[name] for name in ("warps", "stages", "tiles")})
    sizes = [found.warps, *found.tiles.values()]
    if any(type(size) is not int or size < 1 or size & (size - 1) for size in sizes) or found.warps > 32:
        raise ValueError(f"{dict(told)}: warps, at most 32, and tiles are powers of 2")
    if type(found.stages) is not int or not 1 <= found.stages <= 8:
        raise ValueError(f"{dict(told)}: stages are 1 to 8")
    return found


AGAIN = "Delete it, or measure again: python benchmarks/tune.py"
