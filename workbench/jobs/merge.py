"""Several tuned models of one base into one model: reads, asks the method, rounds once and writes, a block of rows at a time.

Tensors are merged side by side, one in each thread. Memory depends on the number of models and threads and not on the models' size.
The model appears in the workspace whole or not at all: it is written to `NAME.partial` and renamed. Where a merge only adds up, a tensor
is read once; else once for its inner products, as often as the method wants to know something of the whole, and once for the merge.
Where it is computed, on the CPU or a GPU, says `jobs/roads.py`.
What a merge is, stands in `methods/merges`; this module knows none of them by name.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.core.job import drain
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.adapting import adapt
from workbench.jobs.crew import side_by_side
from workbench.jobs.factored import Matrices
from workbench.jobs.ingredients import Recipe, open_recipe
from workbench.jobs.layers import Layers, layers_of
from workbench.jobs.machine import on_one_core
from workbench.jobs.mergecard import write_side_files
from workbench.jobs.roads import Road, road_of
from workbench.materials.neurons import cost
from workbench.materials.tensors import FLOATS, NAMES, WIDTHS, ModelWriter, Planned, read_bytes, to_bytes
from workbench.methods.contracts import Merge, Slot


def merge(spec: MergeSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """Write the merged model to `workspace.model(spec.name)`; the last events are Table("layers", …) and Made("model", …).

    A recipe that cannot be carried out is a `SpecError` with all its mistakes, before anything is written; NaN or Inf in a weight,
    a value too large for `dtype`, and a full disk are `WorkbenchError`s, and nothing is left of the model then, nor when the
    generator is closed. Progress counts bytes written. The run's own `folder` is not used: a merged model outlives its run.
    """
    with on_one_core():
        yield from _merged(spec, workspace)


def _merged(spec: MergeSpec, workspace: Workspace) -> Iterator[Event]:
    target = workspace.model(spec.name)
    taken = f"name: there is a model called {target.name!r} already. Choose another name, or remove {target}."
    mistakes = [taken] if target.exists() else []
    if cast(Merge, spec.merge).whole:
        from workbench.jobs.listening import unheard  # its model code takes seconds to import, and other merges have no use for it

        mistakes += unheard(spec, workspace)
    recipe = open_recipe(spec, workspace, mistakes)
    if recipe.method.whole:
        yield from _fuse(recipe, target, workspace)
        return
    if spec.save == "adapter":
        yield from adapt(recipe, target, layers_of(recipe))
        return
    plan = recipe.plan()
    total = sum(tensor.size for tensor in plan)
    layers = layers_of(recipe)
    yield Started(total, _about(recipe, plan, layers.road))
    slots = {slot.name: slot for slot in recipe.slots()}
    for _ in layers.prepare():
        yield Progress(0, total, "looking through the models")
    with ModelWriter(target, plan) as writer:
        work = [partial(_written, recipe, tensor, slots.get(tensor.name), layers, writer) for tensor in plan]
        with closing(side_by_side(work, layers.road.threads)) as pieces:
            for done in _seldom(pieces, total):
                yield Progress(done, total, "bytes")
        write_side_files(recipe, writer.partial)
        yield from layers.unmoved()
        yield from layers.road.notes()
        yield from (Noted(text, "watch") for text in (recipe.vocabulary.notes() if recipe.vocabulary else ()))
        yield layers.table()
        writer.commit()
    yield Made("model", str(target))


def _seldom(pieces: Iterator[int], total: int) -> Iterator[int]:
    """How many bytes are done, each five-hundredth of all and now and then while nothing is written: each word costs time too."""
    done = told = 0
    for number, size in enumerate(pieces):
        done += size
        if done == total or done - told >= total / 500 or number % 64 == 0:
            told = done
            yield done


def _fuse(recipe: Recipe, target: Path, workspace: Workspace) -> Iterator[Event]:
    """A merge of whole models, which are in memory for it."""
    from workbench.jobs.listening import fused, heard

    yield Progress(0, 1, "reading the models")
    held, road = recipe.held(), road_of(recipe.spec)
    tensors, config, table = yield from fused(held, (yield from heard(held, workspace)), road)
    del held  # while the result is written, the models need not be there
    plan = [_planned(recipe, name, tensor) for name, tensor in tensors.items()]
    total, done = sum(tensor.size for tensor in plan), 0
    yield Started(total, _about(recipe, plan, road))
    with ModelWriter(target, plan) as writer:
        for tensor in plan:
            data = _rounded(tensor, tensors[tensor.name].float())
            writer.write(tensor.name, data)
            done += len(data)
            yield Progress(done, total, "bytes")
        write_side_files(recipe, writer.partial, config)
        writer.commit()
    before, after = cost(recipe.base.config), cost(config)
    wider, slower = (own / of for own, of in zip(after, before, strict=True))
    yield Noted(f"It has {wider:.3g} times the base's parameters, and takes {slower:.3g} times its operations a token.", "info")
    yield from road.notes()
    if table.rows:
        yield table
    yield Made("model", str(target))


def _planned(recipe: Recipe, name: str, tensor: Tensor) -> Planned:
    format = recipe.base.entries[name].format if recipe.spec.dtype == "as base" else NAMES[recipe.spec.dtype]
    return Planned(name, format, tuple(tensor.shape), tensor.numel() * WIDTHS[format])


def preview(spec: MergeSpec, workspace: Workspace) -> Table:
    """The table that `merge` would yield, with nothing written; it reads every weight as often as `merge` does."""
    recipe = open_recipe(spec, workspace)
    if recipe.method.whole:
        return Table("layers", ["tensor", "layer", "depth", "module"], [])
    layers = layers_of(recipe)
    drain(layers.prepare())
    for slot in recipe.slots():
        for _ in layers.measured(slot):
            pass
    return layers.table()


def _written(recipe: Recipe, tensor: Planned, slot: Slot | None, layers: Layers | Matrices, writer: ModelWriter) -> Iterator[int]:
    """Write one tensor of the merged model; yields how many bytes more, 0 for a breath. Without a slot it is copied."""
    if slot is None:
        writer.write(tensor.name, read_bytes(recipe.base.entries[tensor.name]))
        yield tensor.size
        return
    for data in layers.merged(slot, partial(_rounded, tensor)):
        if data is None:
            yield 0
            continue
        writer.write(tensor.name, data)
        yield len(data)


def _rounded(tensor: Planned, merged: Tensor) -> memoryview:
    """The bytes that are written, in main memory."""
    low, high = torch.aminmax(merged)
    largest = float(torch.maximum(-low, high))
    if not largest <= torch.finfo(FLOATS[tensor.format]).max:  # so that NaN is refused too
        raise WorkbenchError(
            f"The merged {tensor.name} has numbers too large for {tensor.format}: the largest is {largest:.3g}. "
            "Use smaller weights, or write the model as float32."
        )
    return to_bytes(merged.to(FLOATS[tensor.format]).cpu())


def _about(recipe: Recipe, plan: Sequence[Planned], road: Road) -> dict[str, object]:
    return {
        "method": recipe.method.title(),
        "base": recipe.base.label,
        "models": [member.label for member in recipe.tuned[: len(recipe.spec.models)]],
        "tensors": len(plan),
        "parameters": sum(math.prod(tensor.shape) for tensor in plan),
        "bytes": sum(tensor.size for tensor in plan),
        "device": str(road.device),
    }
