"""A checkpoint: one safetensors file with everything that makes the next step the same as if nothing had happened.

What was learnt, the optimizer's state, the random state, what early stopping has counted, and the step
(the data position follows from it). Written beside
and renamed, so a crash leaves the old one or the new one, never half of one. Knows nothing of models' formats.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.core.errors import WorkbenchError

FILE = "checkpoint/state.safetensors"


Parts = Mapping[str, Mapping[str, Tensor]]
"""What makes up a run's state: `adapter`, `optimizer`, `random`, `ending`, each its tensors by name."""


def write(folder: Path, step: int, parts: Parts) -> Path:
    """Write the run's state after `step` beside the last one; `show` puts it in its place. Returns the checkpoint's folder."""
    tensors = {f"{part}/{name}": tensor.detach().cpu().contiguous() for part, held in parts.items() for name, tensor in held.items()}
    target = folder / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step), "parts": " ".join(parts), "tensors": str(len(tensors))})
    return target.parent


def show(folder: Path) -> None:
    """From now on what was written last is the checkpoint."""
    target = folder / FILE
    os.replace(target.with_suffix(".partial"), target)


def load(folder: Path) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """The step after which the state was saved, and its parts; 0 and nothing where there is none.

    Raises:
        WorkbenchError: the file is damaged.
    """
    if not (folder / FILE).exists():
        return 0, {}
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            about = file.metadata()
            step, parts = int(about["step"]), {part: dict[str, Tensor]() for part in about["parts"].split()}
            for key in file.keys():  # noqa: SIM118  (safe_open is no dict)
                part, _, name = key.partition("/")
                parts[part][name] = file.get_tensor(key)
        if sum(map(len, parts.values())) != int(about["tensors"]):
            raise ValueError("some of its tensors are missing")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WorkbenchError(
            f"The checkpoint {folder / FILE} is damaged ({error}), so the run cannot go on from it. "
            "Start a new run from its spec; the adapter that it may have saved beside it is not touched."
        ) from error
    return step, parts


def random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def whole(folder: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a folder, and show it under its name only when it is whole; an older one is replaced.

    Between two renames the older one stands under `.old`, where readers look for it too (`materials.models`).
    """
    partial, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder
