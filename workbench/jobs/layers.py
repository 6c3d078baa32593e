"""What a merge knows of each tensor as a whole, what explains it, and the tensors that come of it, a block of rows at a time.

What it is not: the merge's files (`jobs/merge.py`), a merge that is asked with factors (`jobs/factored.py`), or what becomes of a tensor
(`methods/merges/`); knows no merge by name.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.job import drain
from workbench.jobs.crew import side_by_side
from workbench.jobs.factored import Matrices
from workbench.jobs.ingredients import Recipe
from workbench.jobs.roads import CPU, Piece, no_room, road_of
from workbench.materials.slot import ranked
from workbench.materials.tensors import task_gram
from workbench.methods.contracts import Merge, Slot

TOLD = 1 << 19  # numbers of a tensor, spread evenly, from which the shares that explain a merge are taken: good to a thousandth
T = TypeVar("T")
Grams = dict[tuple[str, bool], Tensor]
"""Inner products of whole tensors (`task_gram`) by the tensor's name and whether they are rough."""


class Layers:
    """What is known of each tensor as a whole, and what explains the merge, tensor by tensor, as it goes.

    `grams` are those that are known already; what is found out is put there. They belong to the models, whatever merge they are for.
    """

    def __init__(self, recipe: Recipe, grams: Grams | None = None):
        self._recipe, self.road = recipe, road_of(recipe.spec)
        self._grams: Grams = {} if grams is None else grams
        self._told: dict[str, tuple[dict[str, float], list[float]]] = {}  # what explains a tensor, and how far each model moved it
        self._across: tuple[tuple[float, ...], ...] | None = None

    def prepare(self) -> Generator[None, None, None]:
        """Look through the whole model first, where the method wants to know something of all tensors together; yields breaths."""
        if self._recipe.method.across():
            self._across = yield from self._ranked(self._recipe.method, self._recipe.slots())

    def measured(self, slot: Slot) -> Iterator[tuple[Slot, Piece] | None]:
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
        piece: Piece | None = None
        every = max(1, math.prod(self._recipe.base.shape(slot.name)) // (TOLD * self.road.times))
        for number, (at, piece) in enumerate(self._pieces(slot)):
            here = replace(known, first=at.first)
            if adding and gram is not None:
                gram += self.of(slot, piece, partial(task_gram, rough=True))
                _check_finite(self._recipe, slot, gram)
            elif number % every == 0 and not adds:
                told.append(self.asked(partial(_explained, method), here, piece, weights))
            yield here, piece
        if on_the_way:
            known, self._grams[slot.name, True] = replace(known, gram=gram), gram
        if adds and piece is not None:
            told = [(1, self.asked(method.explain, known, piece, weights))]
        self._add(slot, known, told)

    def merged(self, slot: Slot, finish: Callable[[Tensor], T]) -> Iterator[T | None]:
        """What `finish` makes of the merged tensor, block by block and where it was merged; None is a breath."""
        method, weights = self._recipe.at(slot)
        for step in self.measured(slot):
            if step is None:
                yield None
                continue
            yield self.asked(partial(_finished, method, finish), *step, weights)

    def of(self, slot: Slot, piece: Piece, work: Callable[[Tensor, list[Tensor]], T]) -> T:
        """What `work` makes of a block, on the merge's road."""
        return self.road.do(slot.name, lambda device: work(*piece(device)))

    def asked(self, verb: Callable[[Slot, Tensor, list[Tensor], list[float]], T], slot: Slot, piece: Piece, weights: list[float]) -> T:
        """What a verb of a merge answers to a block, on the merge's road."""
        return self.road.do(slot.name, lambda device: verb(slot, *piece(device), weights))

    def _whole(self, slot: Slot) -> Generator[None, None, Slot]:
        """The slot with what is wanted of the whole tensor, found in at most four readings of it; yields breaths."""
        method, weights = self._recipe.at(slot)
        if (slot.name, False) not in self._grams:
            gram = torch.zeros([len(weights) + 1] * 2, dtype=torch.float64)
            for _, piece in self._pieces(slot):
                gram += self.of(slot, piece, task_gram)
                yield
            _check_finite(self._recipe, slot, gram)
            self._grams[slot.name, False] = gram
        gram = self._grams[slot.name, False]
        cuts = self._across
        if cuts is None:
            nothing = type(method).sizes is Merge.sizes
            cuts = () if nothing else (yield from self._ranked(method, [slot]))
        known, totals = replace(slot, gram=gram, cuts=cuts), None
        for at, piece in () if type(method).totals is Merge.totals else self._pieces(slot):
            added = self.asked(partial(_added, method), replace(known, first=at.first), piece, weights)
            if added is None:
                break
            totals = added if totals is None else totals + added
            yield
        return replace(known, totals=totals)

    def _ranked(self, method: Merge, slots: Sequence[Slot]) -> Generator[None, None, tuple[tuple[float, ...], ...]]:
        """The order statistics of these tensors together; counted anew on the CPU where the device runs out of room."""
        sizes = partial(self._all_sizes, slots)
        try:
            return (yield from ranked(method, sizes))
        except RuntimeError as error:
            if self.road.device == CPU or not no_room(error):
                raise
        self.road.turn_away([slot.name for slot in slots])
        return (yield from ranked(method, sizes))

    def _all_sizes(self, slots: Sequence[Slot]) -> Iterator[list[Tensor]]:
        return (self._sizes(*part) for slot in slots for part in self._pieces(slot))

    def _sizes(self, slot: Slot, piece: Piece) -> list[Tensor]:
        method, weights = self._recipe.at(slot)
        return self.asked(method.sizes, slot, piece, weights)

    def _pieces(self, slot: Slot) -> Iterator[tuple[Slot, Piece]]:
        return self._recipe.pieces(slot, self.road.times if self.road.leads_away(slot.name) else 1)

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
    work = [partial(_filled, layers, slot, found[slot.name]) for slot in slots]
    with closing(side_by_side(work, layers.road.threads)) as breaths:
        for _ in breaths:
            pass
    return found, layers.table()


def _filled(layers: "Layers | Matrices", slot: Slot, into: Tensor) -> Iterator[None]:
    done = 0
    for rows in layers.merged(slot, Tensor.cpu):
        if rows is not None:
            (into[done : done + len(rows)] if rows.dim() else into).copy_(rows)
            done += len(rows) if rows.dim() else 0
        yield


def _explained(method: Merge, slot: Slot, base: Tensor, tuned: list[Tensor], weights: list[float]) -> tuple[int, dict[str, float]]:
    return base.shape[0] if base.dim() else 1, method.explain(slot, base, tuned, weights)


def _added(method: Merge, slot: Slot, base: Tensor, tuned: list[Tensor], weights: list[float]) -> Tensor | None:
    totals = method.totals(slot, base, tuned, weights)
    return None if totals is None else totals.cpu()


def _finished(method: Merge, finish: Callable[[Tensor], T], slot: Slot, base: Tensor, tuned: list[Tensor], weights: list[float]) -> T:
    return finish(method.tensor(slot, base, tuned, weights))


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
