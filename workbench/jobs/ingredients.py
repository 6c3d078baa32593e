"""A merge's recipe with its models open: what is read of them, and which tensors come of it.

What it is not: the merge (`jobs/merge.py`), or what one model alone must be like (`materials/family.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from torch import Tensor

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.materials.family import Member, differences, open_member, same_head
from workbench.materials.models import layer_of, resolve
from workbench.materials.tensors import NAMES, WIDTHS, Planned, spans
from workbench.methods.contracts import Merge, Slot

Block = tuple[Tensor, list[Tensor]]
"""The same rows of the base and of every tuned model, float32."""


@dataclass(frozen=True)
class Recipe:
    """A spec whose models are open and belong together."""

    spec: MergeSpec
    folder: Path  # the base's, where config and tokenizer come from
    base: Member
    tuned: list[Member]
    places: tuple[str, ...]  # where base and tuned lie, an adapter behind a +, as mergekit writes it
    in_memory: dict[str, Block] = field(default_factory=dict)  # whole tensors, where they were read already

    @property
    def method(self) -> Merge:
        return cast(Merge, self.spec.merge)

    def at(self, slot: Slot) -> tuple[Merge, list[float]]:
        """The method and the models' weights as they are for this tensor."""
        return cast(tuple[Merge, list[float]], self.spec.at(slot.name, slot.depth))

    def slots(self) -> list[Slot]:
        """The tensors that are merged, in the order of the base's file. A model of one block has depth 1."""
        names = self.base.merged_names()
        layers = 1 + max((layer for name in names if (layer := layer_of(name)) is not None), default=-1)
        return [_slot(name, layers) for name in names]

    def plan(self) -> list[Planned]:
        """All tensors that are written, the merged ones and those copied from the base."""
        return [self._planned(name) for name in self.base.entries]

    def held(self) -> "Recipe":
        """The same with all that is merged in memory, float32."""
        return replace(self, in_memory={slot.name: self._read(slot.name, 0, self._rows(slot.name)) for slot in self.slots()})

    def blocks(self, slot: Slot) -> Iterator[tuple[Slot, Block]]:
        """The tensor in blocks of whole rows, each with the slot that says where it begins; one block if it is in memory."""
        if slot.name in self.in_memory:
            yield slot, self.in_memory[slot.name]
            return
        for start, stop in spans(self.base.shape(slot.name)):
            yield replace(slot, first=start), self._read(slot.name, start, stop)

    def _rows(self, name: str) -> int:
        shape = self.base.shape(name)
        return shape[0] if shape else 1

    def _read(self, name: str, start: int, stop: int) -> Block:
        return self.base.rows(name, start, stop), [member.rows(name, start, stop) for member in self.tuned]

    def _planned(self, name: str) -> Planned:
        entry, shape = self.base.entries[name], self.base.shape(name)
        if self.base.is_buffer(name):
            return Planned(name, entry.format, shape, entry.size)
        format = entry.format if self.spec.dtype == "as base" else NAMES[self.spec.dtype]
        return Planned(name, format, shape, math.prod(shape) * WIDTHS[format])


def open_recipe(spec: MergeSpec, workspace: Workspace, mistakes: Sequence[str] = ()) -> Recipe:
    """The spec with its models opened, or a `SpecError` with these and all other mistakes."""
    method = cast(Merge, spec.merge)
    ends = (("", None), ("", 0.0), ("", 1.0))
    found = [*mistakes, *(sentence for end in ends for sentence in method.mistakes(spec.at(*end)[1]))]
    members: list[Member | None] = []
    places: list[str] = []
    for place, reference in [("base", spec.base), *((f"models.{number}", given.model) for number, given in enumerate(spec.models))]:
        try:
            ref = resolve(reference, workspace)
            places.append(f"{ref.path}+{ref.adapter}" if ref.adapter else ref.path)
            members.append(open_member(ref))
        except WorkbenchError as error:
            found.append(f"{place}: {error}")
            members.append(None)
    opened = same_head([member for member in members if member is not None])
    if members[0] is not None:
        found += [sentence for other in opened[1:] for sentence in differences(opened[0], other)]
    if found:
        raise SpecError(list(dict.fromkeys(found)))
    return Recipe(spec, Path(places[0].partition("+")[0]), opened[0], opened[1:], tuple(places))


def _slot(name: str, layers: int) -> Slot:
    layer = layer_of(name)
    if layer is None:
        return Slot(name, None, None, layers)
    return Slot(name, layer / (layers - 1) if layers > 1 else 1.0, layer, layers)
