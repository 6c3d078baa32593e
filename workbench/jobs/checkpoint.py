"""A checkpoint: one safetensors file with everything that makes the next step the same as if nothing had happened.

What was learnt, the optimizer's state, the random state, and the step (the data position follows from it). Written beside
and renamed, so a crash leaves the old one or the new one, never half of one. Knows nothing of models' formats.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.methods.contracts import Attachment, Stepper

FILE = "checkpoint/state.safetensors"


def save(folder: Path, step: int, attachment: Attachment, stepper: Stepper, random: dict[str, Tensor]) -> Path:
    """Write the run's state after `step`; returns the checkpoint's folder."""
    parts = {"adapter": attachment.state(), "optimizer": stepper.state(), "random": random}
    tensors = {f"{part}/{name}": tensor.detach().cpu().contiguous() for part, held in parts.items() for name, tensor in held.items()}
    target = folder / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step)})
    os.replace(partial, target)
    return target.parent


def load(folder: Path, attachment: Attachment, stepper: Stepper) -> tuple[int, dict[str, Tensor]]:
    """Put the saved state back; returns the step it was taken after (0 when there is none) and the random state."""
    if not (folder / FILE).exists():
        return 0, {}
    parts: dict[str, dict[str, Tensor]] = {"adapter": {}, "optimizer": {}, "random": {}}
    with safe_open(folder / FILE, framework="pt") as file:
        step = int(file.metadata()["step"])
        for key in file.keys():  # noqa: SIM118  (safe_open is no dict)
            part, _, name = key.partition("/")
            parts[part][name] = file.get_tensor(key)
    attachment.load_state(parts["adapter"])
    stepper.load_state(parts["optimizer"])
    return step, parts["random"]


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
    """Let `write` fill a folder, and show it under its name only when it is whole; an older one is replaced."""
    partial, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    for rest in (partial, old):
        shutil.rmtree(rest, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder
