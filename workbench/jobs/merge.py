"""Several tuned models of one base into one model: reads, asks the method, rounds once and writes, a block of rows at a time.

Memory depends on the number of models and not on their size. The model appears in the workspace whole or not at all: it is
written to `NAME.partial` and renamed. A tensor of one block is read once; a larger one once for its inner products, as often as the
method wants to know something of the whole, and once for the merge. What a merge is, stands in `methods/merges`; this module knows
none of them by name.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.ingredients import Block, Recipe, open_recipe
from workbench.jobs.machine import on_one_core
from workbench.jobs.mergecard import config_of, write_side_files
from workbench.materials.neurons import cost
from workbench.materials.slot import cuts_of
from workbench.materials.tensors import FLOATS, NAMES, WIDTHS, ModelWriter, Planned, read_bytes, spans, task_gram, to_bytes
from workbench.methods.contracts import Fusion, Slot

AT_ONCE = 1 << 16  # numbers that a method is given at once


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
    recipe = open_recipe(spec, workspace, _taken(target))
    if recipe.method.whole:
        yield from _fuse(recipe, target)
        return
    plan = recipe.plan()
    total, done = sum(tensor.size for tensor in plan), 0
    yield Started(total, _about(recipe, plan))
    layers = _Layers(recipe)
    slots = {slot.name: slot for slot in recipe.slots()}
    layers.prepare()
    with ModelWriter(target, plan) as writer:
        for tensor in plan:
            for data in _written(recipe, tensor, slots.get(tensor.name), layers):
                writer.write(data)
                done += len(data)
                yield Progress(done, total, "bytes")
        write_side_files(recipe, writer.partial)
        yield from layers.unmoved()
        yield layers.table()
        writer.commit()
    yield Made("model", str(target))


def _fuse(recipe: Recipe, target: Path) -> Iterator[Event]:
    """A merge of whole models, which are in memory for it."""
    yield Progress(0, 1, "reading the models")
    tensors, config = fused(recipe.held())
    plan = [_planned(recipe, name, tensor) for name, tensor in tensors.items()]
    total, done = sum(tensor.size for tensor in plan), 0
    yield Started(total, _about(recipe, plan))
    with ModelWriter(target, plan) as writer:
        for tensor in plan:
            data = _rounded(tensors[tensor.name].float(), tensor)
            writer.write(data)
            done += len(data)
            yield Progress(done, total, "bytes")
        write_side_files(recipe, writer.partial, config)
        writer.commit()
    before, after = cost(recipe.base.config), cost(config)
    wider, slower = (own / of for own, of in zip(after, before, strict=True))
    yield Noted(f"It has {wider:.3g} times the base's parameters, and takes {slower:.3g} times its operations a token.", "info")
    yield Made("model", str(target))


def fused(recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and config that a merge of whole models gives; the recipe's tensors are in memory."""
    method, weights = recipe.at(Slot("", None, None, 0))
    tuned = [{name: block[1][place] for name, block in recipe.in_memory.items()} for place in range(len(recipe.tuned))]
    return cast(Fusion, method).model(config_of(recipe), tuned, weights)


def _planned(recipe: Recipe, name: str, tensor: Tensor) -> Planned:
    format = recipe.base.entries[name].format if recipe.spec.dtype == "as base" else NAMES[recipe.spec.dtype]
    return Planned(name, format, tuple(tensor.shape), tensor.numel() * WIDTHS[format])


def preview(spec: MergeSpec, workspace: Workspace) -> Table:
    """The table that `merge` would yield, with nothing written; it reads every weight once (twice where blocks are needed)."""
    recipe = open_recipe(spec, workspace)
    if recipe.method.whole:
        return Table("layers", ["tensor", "layer", "depth", "module"], [])
    layers = _Layers(recipe)
    layers.prepare()
    for slot in recipe.slots():
        for _ in layers.measured(slot):
            pass
    return layers.table()


def in_memory(recipe: Recipe) -> tuple[dict[str, Tensor], Table]:
    """The merged tensors, float32 and not rounded, and the table that explains them."""
    layers, merged = _Layers(recipe), dict[str, Tensor]()
    layers.prepare()
    for slot in recipe.slots():
        method, weights = recipe.at(slot)
        parts = [method.tensor(step[0], *step[1], weights) for step in layers.measured(slot) if step is not None]
        merged[slot.name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return merged, layers.table()


class _Layers:
    """What is known of each tensor as a whole, and what explains the merge, tensor by tensor, as it goes."""

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._rows: list[list[object]] = []
        self._columns: list[str] = []
        self._moved = [0.0] * len(recipe.tuned)
        self._across: tuple[tuple[float, ...], ...] | None = None

    def prepare(self) -> None:
        """Look through the whole model first, where the method wants to know something of all tensors together."""
        if self._recipe.method.across():
            slots = self._recipe.slots()
            self._across = cuts_of(
                self._recipe.method, lambda: (self._sizes(*part) for slot in slots for part in self._recipe.blocks(slot))
            )

    def measured(self, slot: Slot) -> Iterator[tuple[Slot, Block] | None]:
        """The tensor's blocks, each with the slot that knows the whole; None is a breath while that is found out."""
        once = slot.name in self._recipe.in_memory or len(spans(self._recipe.base.shape(slot.name))) <= 1
        few = list(self._recipe.blocks(slot)) if once else None
        known = slot
        for step in self._whole(slot, lambda: self._recipe.blocks(slot) if few is None else iter(few)):
            known = step or known
            yield None
        method, weights = self._recipe.at(slot)
        told: list[tuple[int, dict[str, float]]] = []
        for at, block in self._recipe.blocks(slot) if few is None else few:
            here = replace(known, first=at.first)
            told.append((block[0].shape[0] if block[0].dim() else 1, method.explain(here, *block, weights)))
            yield here, block
        self._add(slot, known, told)

    def _whole(self, slot: Slot, blocks: Callable[[], Iterator[tuple[Slot, Block]]]) -> Iterator[Slot | None]:
        """What is wanted of the whole tensor, found in at most four readings of its blocks; what is yielded last is the slot with it."""
        method, weights = self._recipe.at(slot)
        gram = torch.zeros(len(self._moved) + 1, len(self._moved) + 1, dtype=torch.float64)
        for _, block in blocks():
            gram += task_gram(*block)
            yield None
        _check_finite(self._recipe, slot.name, gram)
        cuts = self._across if self._across is not None else cuts_of(method, lambda: (self._sizes(*part) for part in blocks()))
        known, totals = replace(slot, gram=gram, cuts=cuts), None
        for at, block in blocks():
            added = method.totals(replace(known, first=at.first), *block, weights)
            if added is None:
                break
            totals = added if totals is None else totals + added
            yield None
        yield replace(known, totals=totals)

    def _sizes(self, slot: Slot, block: Block) -> list[Tensor]:
        method, weights = self._recipe.at(slot)
        return method.sizes(slot, *block, weights)

    def unmoved(self) -> Iterator[Noted]:
        """A word about each model that is the base itself."""
        for member, moved in zip(self._recipe.tuned, self._moved, strict=True):
            if moved == 0:
                text = f"{member.label} does not differ from the base {self._recipe.base.label}, so it adds nothing to the merge."
                yield Noted(text, "watch")

    def table(self) -> Table:
        return Table("layers", ["tensor", "layer", "depth", "module", *self._columns], self._rows)

    def _add(self, slot: Slot, known: Slot, told: list[tuple[int, dict[str, float]]]) -> None:
        if not told or known.gram is None:
            return
        self._columns = list(told[0][1])
        rows = sum(count for count, _ in told)
        means = [math.fsum(count * numbers[name] for count, numbers in told) / rows for name in self._columns]
        self._rows.append([slot.name, slot.layer, slot.depth, _module(slot), *means])
        self._moved = [total + square for total, square in zip(self._moved, known.gram.diagonal().tolist()[1:], strict=True)]


def _written(recipe: Recipe, tensor: Planned, slot: Slot | None, layers: _Layers) -> Iterator[memoryview | bytearray]:
    """The bytes of one tensor of the merged model, piece by piece; empty pieces are breaths. Without a slot it is copied."""
    if slot is None:
        yield read_bytes(recipe.base.entries[tensor.name])
        return
    for step in layers.measured(slot):
        if step is None:
            yield bytearray()
            continue
        method, weights = recipe.at(slot)
        for known, (base, tuned) in _pieces(*step):
            yield _rounded(method.tensor(known, base, tuned, weights), tensor)


def _pieces(slot: Slot, block: Block) -> Iterator[tuple[Slot, Block]]:
    """A block as smaller ones of whole rows, whose float64 copies stay in the cache; what is read at once may be larger."""
    base, tuned = block
    for start, stop in spans(base.shape, AT_ONCE):
        if base.dim() < 2:
            yield slot, block
        else:
            yield replace(slot, first=slot.first + start), (base[start:stop], [model[start:stop] for model in tuned])


def _rounded(merged: Tensor, tensor: Planned) -> memoryview:
    low, high = torch.aminmax(merged)
    largest = float(torch.maximum(-low, high))
    if not largest <= torch.finfo(FLOATS[tensor.format]).max:  # so that NaN is refused too
        raise WorkbenchError(
            f"The merged {tensor.name} has numbers too large for {tensor.format}: the largest is {largest:.3g}. "
            "Use smaller weights, or write the model as float32."
        )
    return to_bytes(merged.to(FLOATS[tensor.format]))


def _module(slot: Slot) -> str:
    """`model.layers.3.mlp.up_proj.weight` → up_proj; a bias keeps its last word."""
    parts = slot.name.removesuffix(".weight").split(".")
    return ".".join(parts[-2:]) if parts[-1] == "bias" else parts[-1]


def _taken(target: Path) -> list[str]:
    if not target.exists():
        return []
    return [f"name: there is a model called {target.name!r} already. Choose another name, or remove {target}."]


def _check_finite(recipe: Recipe, name: str, gram: Tensor) -> None:
    if torch.isfinite(gram).all():
        return
    bad = next(index for index, value in enumerate(gram.diagonal().tolist()) if not math.isfinite(value))
    label = [recipe.base.label, *(member.label for member in recipe.tuned)][bad]
    raise WorkbenchError(
        f"{label} holds NaN or Inf in {name}. A merge would carry it into the new model. Use a checkpoint from before its training broke."
    )


def _about(recipe: Recipe, plan: Sequence[Planned]) -> dict[str, object]:
    return {
        "method": recipe.method.title(),
        "base": recipe.base.label,
        "models": [member.label for member in recipe.tuned],
        "tensors": len(plan),
        "parameters": sum(math.prod(tensor.shape) for tensor in plan),
        "bytes": sum(tensor.size for tensor in plan),
    }
