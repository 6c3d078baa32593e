"""Putting the adapter on the model, after it has looked at rows if it must: what it found is kept with the run.

What it is not: what it looks for (`methods/adapters/`), or how rows are read (`materials/evidence.py`).
"""

import os
import random
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.mixing import encoded
from workbench.jobs.prepare import Prepared
from workbench.materials.corpus import load
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.templates import Encoded
from workbench.methods.contracts import Attachment, Informed

FILE = "study.safetensors"
Row = TypeVar("Row")


def attached(spec: TrainSpec, prepared: Prepared, folder: Path, workspace: Workspace) -> Generator[Progress, None, Attachment]:
    """The spec's adapter at work on the model, told of the rows and of the earlier run that it goes by.

    Raises:
        WorkbenchError: a data set that it must look at is not there or has nothing to learn from.
    """
    model = prepared.model
    if isinstance(spec.adapter, Informed):
        learnt = yield from _learnt(spec, prepared, folder / FILE, workspace)
        attachment = spec.adapter.attach(model, spec.seed, learnt)
    else:
        attachment = spec.adapter.attach(model, spec.seed)
    if type(attachment).look is not Attachment.look:
        attachment.look((yield from _evidence(spec, prepared, workspace)))
    attachment.meet(prepared.about.names)
    if prepared.earlier:
        attachment.heed(prepared.earlier)
    return attachment


def _learnt(spec: TrainSpec, prepared: Prepared, file: Path, workspace: Workspace) -> Generator[Progress, None, Learnt]:
    """What the adapter found when the run was new; it looks now if that is not on the disk."""
    adapter = cast(Informed, spec.adapter)
    if file.exists():
        try:
            return {name: tensor.to(prepared.model.device) for name, tensor in load_file(file).items()}
        except (SafetensorError, OSError) as error:
            raise WorkbenchError(
                f"What the adapter found in the rows is damaged on the disk ({error}), so the run cannot go on as it began. "
                f"Remove {file} to have it look again, or start a new run from the spec."
            ) from error
    learnt = yield from adapter.study(prepared.model, (yield from _evidence(spec, prepared, workspace)))
    unfinished = file.with_suffix(".partial")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in learnt.items()}, unfinished)
    os.replace(unfinished, file)
    return learnt


def _evidence(spec: TrainSpec, prepared: Prepared, workspace: Workspace) -> Generator[Progress, None, Evidence]:
    """The rows that the adapter looks at, which the run's seed draws."""
    rows = dict[str, Sequence[Encoded]]()
    for name in spec.adapter.looks_at():
        rows[name] = (yield from _rows_of(name, spec, prepared, workspace)) if name else _some(prepared.train, spec)
    tokenizer, device = prepared.tokenizer, prepared.model.device
    return Evidence(rows, cast(int, tokenizer.pad_token_id), device, partial(tokenizer.encode, add_special_tokens=False))


def _some(rows: Sequence[Row], spec: TrainSpec) -> list[Row]:
    """As many as the adapter looks at, drawn by the run's seed, in their order."""
    wanted = min(len(rows), cast(Looking, spec.adapter).rows)
    return [rows[place] for place in sorted(random.Random(spec.seed).sample(range(len(rows)), wanted))]


def _rows_of(name: str, spec: TrainSpec, prepared: Prepared, workspace: Workspace) -> Generator[Progress, None, list[Encoded]]:
    data = DataSpec(path=name, max_length=spec.data.max_length)
    rows, _ = yield from encoded(prepared.tokenizer, _some(load(name, workspace, {}).examples, spec), data)
    if not rows:
        raise WorkbenchError(f"{spec.adapter.title()} looks at {name}, which has no rows that anything can be learnt from. Name another.")
    return rows
