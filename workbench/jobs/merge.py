"""Several tuned models of one base into one model: reads, asks the method, rounds once and writes, a block of rows at a time.

Tensors are merged side by side, one in each thread. Memory depends on the number of models and threads and not on the models' size.
The model appears in the workspace whole or not at all: it is written to `NAME.partial` and renamed. Where a merge only adds up, a tensor
is read once; else once for its inner products, as often as the method wants to know something of the whole, and once for the merge.
What a merge is, stands in `methods/merges`; this module knows none of them by name.
"""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.core.job import drain
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.adapting import adapt
from workbench.jobs.crew import side_by_side
from workbench.jobs.factored import Matrices
from workbench.jobs.ingredients import Block, Recipe, open_recipe
from workbench.jobs.machine import on_one_core
from workbench.jobs.mergecard import write_side_files
from workbench.materials.neurons import cost
from workbench.materials.slot import ranked
from workbench.materials.tensors import FLOATS, NAMES, WIDTHS, ModelWriter, Planned, read_bytes, task_gram, to_bytes
from workbench.methods.contracts import Merge, Slot

TOLD = 1 << 19  # numbers of a tensor, spread evenly, from which the shares that explain a merge are taken: good to a thousandth


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
        yield from adapt(recipe, target, _layers(recipe))
        return
    plan = recipe.plan()
    total = sum(tensor.size for tensor in plan)
    yield Started(total, _about(recipe, plan))
    layers = _layers(recipe)
    slots = {slot.name: slot for slot in recipe.slots()}
    for _ in layers.prepare():
        yield Progress(0, total, "looking through the models")
    with ModelWriter(target, plan) as writer:
        work = [partial(_written, recipe, tensor, slots.get(tensor.name), layers, writer) for tensor in plan]
        with closing(side_by_side(work)) as pieces:
            for done in _seldom(pieces, total):
                yield Progress(done, total, "bytes")
        write_side_files(recipe, writer.partial)
        yield from layers.unmoved()
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
    held = recipe.held()
    tensors, config, table = yield from fused(held, (yield from heard(held, workspace)))
    del held  # while the result is written, the models need not be there
    plan = [_planned(recipe, name, tensor) for name, tensor in tensors.items()]
    total, done = sum(tensor.size for tensor in plan), 0
    yield Started(total, _about(recipe, plan))
    with ModelWriter(target, plan) as writer:
        for tensor in plan:
            data = _rounded(tensors[tensor.name].float(), tensor)
            writer.write(tensor.name, data)
            done += len(data)
            yield Progress(done, total, "bytes")
        write_side_files(recipe, writer.partial, config)
        writer.commit()
    before, after = cost(recipe.base.config), cost(config)
    wider, slower = (own / of for own, of in zip(after, before, strict=True))
    yield Noted(f"It has {wider:.3g} times the base's parameters, and takes {slower:.3g} times its operations a token.", "info")
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
    layers = _layers(recipe)
    drain(layers.prepare())
    for slot in recipe.slots():
        for _ in layers.measured(slot):
            pass
    return layers.table()


def in_memory(recipe: Recipe) -> tuple[dict[str, Tensor], Table]:
    """The merged tensors, float32 and not rounded, and the table that explains them."""
    layers, merged = _layers(recipe), dict[str, Tensor]()
    drain(layers.prepare())
    for slot in recipe.slots():
        parts = [rows for rows in layers.merged(slot) if rows is not None]
        merged[slot.name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return merged, layers.table()


class _Layers:
    """What is known of each tensor as a whole, and what explains the merge, tensor by tensor, as it goes."""

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._told: dict[str, tuple[dict[str, float], list[float]]] = {}  # what explains a tensor, and how far each model moved it
        self._across: tuple[tuple[float, ...], ...] | None = None

    def prepare(self) -> Generator[None, None, None]:
        """Look through the whole model first, where the method wants to know something of all tensors together; yields breaths."""
        if self._recipe.method.across():
            slots = self._recipe.slots()
            self._across = yield from ranked(
                self._recipe.method, lambda: (self._sizes(*part) for slot in slots for part in self._recipe.blocks(slot))
            )

    def measured(self, slot: Slot) -> Iterator[tuple[Slot, Block] | None]:
        """The tensor's blocks, each with the slot that knows what the method goes by; None is a breath while that is found out.

        All that explains a merge that adds up follows from inner products. Where its shares do not, they are taken on the way.
        """
        method, weights = self._recipe.at(slot)
        adds = isinstance(method, Additive) and method.adds()
        on_the_way = isinstance(method, Additive) and method.adds() and not method.by_angles()
        known = slot if on_the_way else (yield from self._whole(slot))
        gram = torch.zeros([len(weights) + 1] * 2, dtype=torch.float64)
        told: list[tuple[int, dict[str, float]]] = []
        block: Block | None = None
        every = max(1, math.prod(self._recipe.base.shape(slot.name)) // TOLD)
        for number, (at, block) in enumerate(self._recipe.blocks(slot)):
            here = replace(known, first=at.first)
            if on_the_way:
                gram += task_gram(*block, rough=True)
                _check_finite(self._recipe, slot, gram)
            elif number % every == 0 and not adds:
                told.append((block[0].shape[0] if block[0].dim() else 1, method.explain(here, *block, weights)))
            yield here, block
        known = replace(known, gram=gram) if on_the_way else known
        if adds and block is not None:
            told = [(1, method.explain(known, *block, weights))]
        self._add(slot, known, told)

    def merged(self, slot: Slot) -> Iterator[Tensor | None]:
        """The merged tensor, block by block; None is a breath."""
        method, weights = self._recipe.at(slot)
        for step in self.measured(slot):
            yield None if step is None else method.tensor(step[0], *step[1], weights)

    def _whole(self, slot: Slot) -> Generator[None, None, Slot]:
        """The slot with what is wanted of the whole tensor, found in at most four readings of it; yields breaths."""
        method, weights = self._recipe.at(slot)
        gram = torch.zeros([len(weights) + 1] * 2, dtype=torch.float64)
        for _, block in self._recipe.blocks(slot):
            gram += task_gram(*block)
            yield
        _check_finite(self._recipe, slot, gram)
        cuts = self._across
        if cuts is None:
            nothing = type(method).sizes is Merge.sizes
            cuts = () if nothing else (yield from ranked(method, lambda: (self._sizes(*part) for part in self._recipe.blocks(slot))))
        known, totals = replace(slot, gram=gram, cuts=cuts), None
        for at, block in () if type(method).totals is Merge.totals else self._recipe.blocks(slot):
            added = method.totals(replace(known, first=at.first), *block, weights)
            if added is None:
                break
            totals = added if totals is None else totals + added
            yield
        return replace(known, totals=totals)

    def _sizes(self, slot: Slot, block: Block) -> list[Tensor]:
        method, weights = self._recipe.at(slot)
        return method.sizes(slot, *block, weights)

    def unmoved(self) -> Iterator[Noted]:
        """A word about each model that is the base itself."""
        for place, member in enumerate(self._recipe.tuned if self._recipe.layout is None else ()):  # in a stack it adds its layers
            if not any(moved[place] for _, moved in self._told.values()):
                text = f"{member.label} does not differ from the base {self._recipe.base.label}, so it adds nothing to the merge."
                yield Noted(text, "watch")

    def table(self) -> Table:
        told = [(slot, self._told[slot.name][0]) for slot in self._recipe.slots() if slot.name in self._told]
        columns = [name for name in (told[0][1] if told else ()) if all(name in numbers for _, numbers in told)]
        rows = [[slot.name, slot.layer, slot.depth, _module(slot), *(numbers[name] for name in columns)] for slot, numbers in told]
        return Table("layers", ["tensor", "layer", "depth", "module", *columns], rows)

    def _add(self, slot: Slot, known: Slot, told: list[tuple[int, dict[str, float]]]) -> None:
        if not told or known.gram is None:
            return
        rows = sum(count for count, _ in told)
        means = {name: math.fsum(count * numbers[name] for count, numbers in told) / rows for name in told[0][1]}
        self._told[slot.name] = means, known.gram.diagonal().tolist()[1:]


def _written(recipe: Recipe, tensor: Planned, slot: Slot | None, layers: _Layers | Matrices, writer: ModelWriter) -> Iterator[int]:
    """Write one tensor of the merged model; yields how many bytes more, 0 for a breath. Without a slot it is copied."""
    if slot is None:
        writer.write(tensor.name, read_bytes(recipe.base.entries[tensor.name]))
        yield tensor.size
        return
    for rows in layers.merged(slot):
        if rows is None:
            yield 0
            continue
        data = _rounded(rows, tensor)
        writer.write(tensor.name, data)
        yield len(data)


def _layers(recipe: Recipe) -> "_Layers | Matrices":
    return Matrices(recipe) if recipe.method.factored else _Layers(recipe)


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


def _check_finite(recipe: Recipe, slot: Slot, gram: Tensor) -> None:
    if torch.isfinite(gram).all():
        return
    bad = next(index for index, value in enumerate(gram.diagonal().tolist()) if not math.isfinite(value))
    label = [recipe.base, *(recipe.tuned[place] for place in recipe.takers(slot))][bad].label
    raise WorkbenchError(
        f"{label} holds NaN or Inf in {slot.name}. A merge would carry it into the new model. Use a checkpoint from before its training "
        "broke."
    )


def _about(recipe: Recipe, plan: Sequence[Planned]) -> dict[str, object]:
    return {
        "method": recipe.method.title(),
        "base": recipe.base.label,
        "models": [member.label for member in recipe.tuned[: len(recipe.spec.models)]],
        "tensors": len(plan),
        "parameters": sum(math.prod(tensor.shape) for tensor in plan),
        "bytes": sum(tensor.size for tensor in plan),
    }
