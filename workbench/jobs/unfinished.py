"""A run that is still at work, or was killed, as a model: what its newest checkpoint holds, saved as the run would save it in the end.

What it is not: going on with the run (`train.py`), which reads the same checkpoint. Nothing is written into the run's folder.
"""

import math
from collections.abc import Generator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Progress
from workbench.core.spec import TrainSpec, read_spec
from workbench.core.workspace import Workspace, named
from workbench.jobs import checkpoint
from workbench.jobs.averaging import Average
from workbench.jobs.prepare import base_of
from workbench.jobs.studying import FILE
from workbench.materials.lora import read_lora
from workbench.materials.models import ModelRef, load, resolve, tokenizer
from workbench.materials.precision import place
from workbench.methods.contracts import Attachment, Informed


def at_hand(reference: str, workspace: Workspace, scratch: Path) -> Generator[Progress | Noted, None, ModelRef]:
    """The model of that name; a run that has a checkpoint newer than what it has saved as it was then, written to the folder `scratch`.

    Raises:
        WorkbenchError: there is no such model, or its checkpoint cannot be read.
    """
    kind, _, name = reference.partition(":")
    folder = workspace.home.resolve() / "runs" / named(name) if kind == "run" else None
    if folder is None or not _is_ahead(folder):
        return resolve(reference, workspace)
    spec = read_spec(folder / "spec.yaml")
    if not isinstance(spec, TrainSpec):
        return resolve(reference, workspace)
    label = f"run {folder.name} · {spec.name}" if spec.name else f"run {folder.name}"
    yield Progress(0, 1, f"reading the checkpoint of {label}")
    base = base_of(spec, workspace)
    step = _save(spec, base, folder, scratch, workspace)
    yield Noted(f"{label} is not finished: it answers as it was after step {step}.", "info", step)
    return ModelRef(reference, label, str(scratch)) if spec.adapter.whole else ModelRef(reference, label, base.path, scratch)


def _is_ahead(folder: Path) -> bool:
    """Whether a checkpoint was written since the run saved what it made, if it did: in the end that comes last. A folder that has lost
    its weights is damaged, and opening it tells."""
    state, made = folder / checkpoint.FILE, [own for kind in ("adapter", "model") if (own := folder / kind).is_dir()]
    newest = [max((path.stat().st_mtime_ns for path in own.glob("*.safetensors")), default=math.inf) for own in made]
    return state.exists() and all(written < state.stat().st_mtime_ns for written in newest)


def _save(spec: TrainSpec, base: ModelRef, folder: Path, scratch: Path, workspace: Workspace) -> int:
    """Write what the checkpoint holds; returns its step."""
    device, dtype = place(spec.precision, "" if spec.adapter.whole else base.path)
    model = load(base, device, torch.float32 if spec.adapter.whole else dtype)
    attachment: Attachment
    if isinstance(spec.adapter, Informed):
        attachment = spec.adapter.attach(model, spec.seed, {name: tensor.to(device) for name, tensor in _found(folder).items()})
    else:
        attachment = spec.adapter.attach(model, spec.seed)
    if spec.adapter.earlier():
        earlier = resolve(spec.adapter.earlier(), workspace)
        if earlier.adapter is not None:
            attachment.heed(read_lora(earlier.adapter, earlier.label))
    step, parts = checkpoint.load(folder)
    attachment.load_state(parts["adapter"])
    average = Average()
    average.load_state(parts.get("average", {}), attachment.trained())
    with average.in_place(attachment.trained()):
        attachment.save(scratch)
    if spec.adapter.whole:
        tokenizer(base).save_pretrained(scratch)
    return step


def _found(folder: Path) -> dict[str, torch.Tensor]:
    """What the adapter found in the rows when the run began."""
    try:
        return load_file(folder / FILE)
    except (SafetensorError, OSError) as error:
        raise WorkbenchError(f"What run {folder.name} found in its rows cannot be read ({error}). Resume it, and ask again.") from error
