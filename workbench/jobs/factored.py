"""A merge of LoRA adapters alone, matrix by matrix: the change that the method makes of the adapters' factors, told and put on the base.

What it is not: the method (`methods/merges/`), the writing (`jobs/merge.py` a model, `jobs/adapting.py` an adapter), or what forbids
either (`jobs/adaptable.py`). Knows no merge by name.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.jobs.adaptable import matrices
from workbench.jobs.ingredients import Recipe
from workbench.jobs.roads import Piece, road_of
from workbench.materials.lora import Factors, Lora
from workbench.methods.contracts import FactorMerge, Slot

T = TypeVar("T")


class Matrices:
    """What the jobs ask of each tensor as a whole, for a merge that is asked with factors; as `Layers` in `jobs/layers.py` for others."""

    def __init__(self, recipe: Recipe):
        self._recipe, self.road = recipe, road_of(recipe.spec)
        self._base = replace(recipe, tuned=[])  # so that nothing else is read
        self._touched = set(matrices(recipe.tuned))
        self._told: dict[str, dict[str, float]] = {}

    def prepare(self) -> Iterator[None]:
        yield from ()

    def measured(self, slot: Slot) -> Iterator[None]:
        """Find out what explains this tensor."""
        if slot.name in self._touched:
            self.change(slot)
        yield None

    def change(self, slot: Slot) -> Factors:
        """The merged change of a matrix that some adapter changes; one that leaves it alone takes part with rank 0."""
        method, weights = self._recipe.at(slot)
        out, into = self._recipe.base.shape(slot.name)
        nothing = Factors(torch.zeros(out, 0, dtype=torch.float64), torch.zeros(0, into, dtype=torch.float64))
        tuned = [member.lora.factors.get(slot.name, nothing) for member in self._recipe.tuned]
        for member, pair in zip(self._recipe.tuned, tuned, strict=True):
            _check_finite(member.label, slot, pair.left, pair.right)
        change, self._told[slot.name] = cast(FactorMerge, method).factors(slot, tuned, weights)
        return change

    def merged(self, slot: Slot, finish: Callable[[Tensor], T]) -> Iterator[T | None]:
        """What `finish` makes of the merged tensor, a block of rows at a time and where it was added up; None is a breath."""
        yield None
        added = Lora({slot.name: self.change(slot)} if slot.name in self._touched else {}, {})
        for at, piece in self._base.pieces(slot, self.road.times if self.road.leads_away(slot.name) else 1):
            yield self.road.do(slot.name, partial(self._on_base, added, at, piece, finish))

    def _on_base(self, added: Lora, at: Slot, piece: Piece, finish: Callable[[Tensor], T], device: torch.device) -> T:
        base, _ = piece(device)
        _check_finite(self._base.base.label, at, base)
        return finish(added.apply(at.name, at.first, base.clone()))

    def unmoved(self) -> Iterator[Noted]:
        """A word about each adapter that changes nothing."""
        for member in self._recipe.tuned:
            if not any(pair.left.any() and pair.right.any() for pair in member.lora.factors.values()):
                text = f"{member.label} does not differ from the base {self._recipe.base.label}, so it adds nothing to the merge."
                yield Noted(text, "watch")

    def table(self) -> Table:
        told = [(slot, self._told[slot.name]) for slot in self._recipe.slots() if slot.name in self._told]
        rows = [[slot.name, slot.layer, slot.depth, _module(slot), *numbers.values()] for slot, numbers in told]
        return Table("layers", ["tensor", "layer", "depth", "module", *(told[0][1] if told else ())], rows)


def _module(slot: Slot) -> str:
    return slot.name.removesuffix(".weight").rpartition(".")[2]


def _check_finite(label: str, slot: Slot, *tensors: Tensor) -> None:
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        raise WorkbenchError(
            f"{label} holds NaN or Inf in {slot.name}. A merge would carry it into the new model. Use a checkpoint from before its "
            "training broke."
        )
