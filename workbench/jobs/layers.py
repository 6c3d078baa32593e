"""What a merge knows of each tensor as a whole, what explains it, and the tensors that come of it, a block of rows at a time.

What it is not: the merge's files (`jobs/merge.py`), a merge that is asked with factors (`jobs/factored.py`), or what becomes of a tensor
(`methods/merges/`); knows no merge by name.
"""

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.job import drain
from workbench.jobs.crew import side_by_side
from workbench.jobs.factored import Matrices
from workbench.jobs.ingredients import Block, Recipe
from workbench.materials.slot import ranked
from workbench.materials.tensors import task_gram
from workbench.methods.contracts import Merge, Slot

TOLD = 1 << 19  # numbers of a tensor, spread evenly, from which the shares that explain a merge are taken: good to a thousandth
Grams = dict[tuple[str, bool], Tensor]
"""Inner products of whole tensors (`task_gram`) by the tensor's name and whether they are rough."""


class Layers:
    """What is known of each tensor as a whole, and what explains the merge, tensor by tensor, as it goes.

    `grams` are those that are known already; what is found out is put there. They belong to the models, whatever merge they are for.
    """

    def __init__(self, recipe: Recipe, grams: Grams | None = None):
        self._recipe = recipe
        self._grams: Grams = {} if grams is None else grams
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
        adding = on_the_way and (slot.name, True) not in self._grams
        gram = torch.zeros([len(weights) + 1] * 2, dtype=torch.float64) if adding else self._grams.get((slot.name, True))
        told: list[tuple[int, dict[str, float]]] = []
        block: Block | None = None
        every = max(1, math.prod(self._recipe.base.shape(slot.name)) // TOLD)
        for number, (at, block) in enumerate(self._recipe.blocks(slot)):
            here = replace(known, first=at.first)
            if adding and gram is not None:
                gram += task_gram(*block, rough=True)
                _check_finite(self._recipe, slot, gram)
            elif number % every == 0 and not adds:
                told.append((block[0].shape[0] if block[0].dim() else 1, method.explain(here, *block, weights)))
            yield here, block
        if on_the_way:
            known, self._grams[slot.name, True] = replace(known, gram=gram), gram
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
        if (slot.name, False) not in self._grams:
            gram = torch.zeros([len(weights) + 1] * 2, dtype=torch.float64)
            for _, block in self._recipe.blocks(slot):
                gram += task_gram(*block)
                yield
            _check_finite(self._recipe, slot, gram)
            self._grams[slot.name, False] = gram
        gram = self._grams[slot.name, False]
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


def layers_of(recipe: Recipe, grams: Grams | None = None) -> "Layers | Matrices":
    return Matrices(recipe) if recipe.method.factored else Layers(recipe, grams)


def in_memory(recipe: Recipe, into: Mapping[str, Tensor] | None = None, grams: Grams | None = None) -> tuple[dict[str, Tensor], Table]:
    """The merged tensors, float32 and not rounded, and the table that explains them; written `into` these tensors, if they are given."""
    layers, slots = layers_of(recipe, grams), recipe.slots()
    found = {slot.name: torch.empty(recipe.base.shape(slot.name)) if into is None else into[slot.name] for slot in slots}
    drain(layers.prepare())
    with closing(side_by_side([partial(_filled, layers, slot, found[slot.name]) for slot in slots])) as breaths:
        for _ in breaths:
            pass
    return found, layers.table()


def _filled(layers: "Layers | Matrices", slot: Slot, into: Tensor) -> Iterator[None]:
    done = 0
    for rows in layers.merged(slot):
        if rows is not None:
            (into[done : done + len(rows)] if rows.dim() else into).copy_(rows)
            done += len(rows) if rows.dim() else 0
        yield


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
