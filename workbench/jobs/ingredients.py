"""A merge's recipe with its models open: what is read of them, and which tensors come of it.

What it is not: the merge (`jobs/merge.py`), or what one model alone must be like (`materials/family.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.spec import MergeSpec
from workbench.core.stack import Layout, beyond, laid_out
from workbench.core.varied import numbers
from workbench.core.workspace import Workspace
from workbench.jobs.adaptable import unfactored, unfit
from workbench.jobs.roads import Piece, no_gpu
from workbench.materials import tensors
from workbench.materials.family import Member, differences, open_member, same_head
from workbench.materials.models import ModelRef, layer_of, resolve
from workbench.materials.stack import layers_of, misfits, renumbered, stacked_config, unclear
from workbench.materials.stack import stacked as stacked_member
from workbench.materials.tensors import NAMES, READ, WIDTHS, Planned, spans
from workbench.materials.vocabulary import Vocabulary, matched
from workbench.methods.contracts import Merge, Slot

Block = tuple[Tensor, list[Tensor]]
"""The same rows of the base and of every tuned model that takes part, float32."""


@dataclass(frozen=True)
class Recipe:
    """A spec whose models are open and belong together.

    Where layers are stacked, `base` and `tuned` have the result's layers already, and the base is the last of the tuned ones too, for
    the slices that name it.
    """

    spec: MergeSpec
    folder: Path  # where the tokenizer comes from
    base: Member
    tuned: list[Member]
    places: tuple[str, ...]  # where base and tuned lie, an adapter behind a +, as mergekit writes it
    layout: Layout | None = None  # of a stack
    vocabulary: Vocabulary | None = None  # where tokens are matched
    in_memory: dict[str, Block] = field(default_factory=dict)  # whole tensors, where they were read already

    @property
    def method(self) -> Merge:
        return cast(Merge, self.spec.merge)

    def takers(self, slot: Slot) -> tuple[int, ...]:
        """The places among `tuned` of the models that take part in this tensor."""
        return tuple(range(len(self.tuned))) if self.layout is None else self.layout.at(slot.name, slot.layer)

    def at(self, slot: Slot) -> tuple[Merge, list[float]]:
        """The method, and the weights of the models that take part, as they are for this tensor; a base among them weighs 1."""
        method, weights = self.spec.at(slot.name, slot.depth)
        return cast(Merge, method), [[*weights, 1.0][place] for place in self.takers(slot)]

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
        return replace(self, in_memory={slot.name: self._read(slot, 0, self._rows(slot.name)) for slot in self.slots()})

    def blocks(self, slot: Slot) -> Iterator[tuple[Slot, Block]]:
        """The tensor in blocks of whole rows, each with the slot that says where it begins. A block lasts until the next is asked for."""
        if slot.name in self.in_memory:
            base, tuned = self.in_memory[slot.name]
            for start, stop in spans(base.shape):
                yield replace(slot, first=start), (_part(base, start, stop), [_part(model, start, stop) for model in tuned])
            return
        members = [self.base, *(self.tuned[place] for place in self.takers(slot))]
        shape = self.base.shape(slot.name)
        # the same memory for all blocks: to ask for new one would cost more than what is done with it
        room = torch.empty(len(members), _largest(shape))
        room_for_raw = torch.empty(len(members), 4 * _largest(shape, READ), dtype=torch.uint8)
        for first, last in spans(shape, READ):
            raw = [member.raw(slot.name, first, last, own) for member, own in zip(members, room_for_raw, strict=True)]
            for start, stop in spans(raw[0].shape):
                parts = zip(members, raw, room, strict=True)
                rows = [member.tuned(slot.name, first + start, _part(all, start, stop), own) for member, all, own in parts]
                yield replace(slot, first=first + start), (rows[0], rows[1:])

    def pieces(self, slot: Slot, times: int = 1) -> Iterator[tuple[Slot, Piece]]:
        """As `blocks`, for work on a device; with `times` as many numbers in a block, and then moved as they stand in the files."""
        if times == 1:
            yield from ((at, partial(_moved, block)) for at, block in self.blocks(slot))
            return
        numbers, shape = times * tensors.BLOCK, self.base.shape(slot.name)
        if slot.name in self.in_memory:
            base, tuned = self.in_memory[slot.name]
            for start, stop in spans(shape, numbers):
                block = _part(base, start, stop), [_part(model, start, stop) for model in tuned]
                yield replace(slot, first=start), partial(_moved, block)
            return
        members = [self.base, *(self.tuned[place] for place in self.takers(slot))]
        room = torch.empty(len(members), 4 * _largest(shape, numbers), dtype=torch.uint8)
        for start, stop in spans(shape, numbers):
            raw = [member.raw(slot.name, start, stop, own) for member, own in zip(members, room, strict=True)]
            yield replace(slot, first=start), partial(_tuned, members, slot.name, start, raw)

    def _rows(self, name: str) -> int:
        shape = self.base.shape(name)
        return shape[0] if shape else 1

    def _read(self, slot: Slot, start: int, stop: int) -> Block:
        tuned = [self.tuned[place].rows(slot.name, start, stop) for place in self.takers(slot)]
        return self.base.rows(slot.name, start, stop), tuned

    def _planned(self, name: str) -> Planned:
        entry, shape = self.base.entries[name], self.base.shape(name)
        if self.base.is_buffer(name):
            return Planned(name, entry.format, shape, entry.size)
        format = entry.format if self.spec.dtype == "as base" else NAMES[self.spec.dtype]
        return Planned(name, format, shape, math.prod(shape) * WIDTHS[format])


def open_recipe(spec: MergeSpec, workspace: Workspace, mistakes: Sequence[str] = ()) -> Recipe:
    """The spec with its models opened, or a `SpecError` with these and all other mistakes."""
    return stacked(open_models(spec, workspace, mistakes), spec)


def open_models(spec: MergeSpec, workspace: Workspace, mistakes: Sequence[str] = ()) -> Recipe:
    """As `open_recipe`, with the models as they are before any layers are stacked."""
    found = [*mistakes, *refusals(spec)]
    members: list[Member | None] = []
    refs: list[ModelRef] = []
    places: list[str] = []
    for place, reference in [("base", spec.base), *((f"models.{number}", given.model) for number, given in enumerate(spec.models))]:
        try:
            ref = resolve(reference, workspace)
            refs.append(ref)
            places.append(f"{ref.path}+{ref.adapter}" if ref.adapter else ref.path)
            members.append(open_member(ref))
        except WorkbenchError as error:
            found.append(f"{place}: {error}")
            members.append(None)
    opened = same_head([member for member in members if member is not None])
    vocabulary = None
    if spec.tokenizer != "same" and None not in members:
        try:
            opened, vocabulary = _matched(spec, opened, places)
        except WorkbenchError as error:
            found.append(f"tokenizer: {error}")
    if members[0] is not None:
        comparable = opened[1:] if vocabulary or spec.tokenizer == "same" else []  # their rows differ as long as they are not matched
        found += [sentence for other in comparable for sentence in differences(opened[0], other)]
        found += _unstackable(spec, opened[0]) if spec.stack else []
    if cast(Merge, spec.merge).factored and None not in members:
        found += unfactored(spec, opened[0], opened[1:])
    elif spec.save == "adapter" and None not in members:
        found += unfit(spec, refs, opened)
    if found:
        raise SpecError(list(dict.fromkeys(found)))
    folder = vocabulary.folder if vocabulary else _folder(places[0])
    return Recipe(spec, folder, opened[0], opened[1:], tuple(places), vocabulary=vocabulary)


def stacked(plain: Recipe, spec: MergeSpec) -> Recipe:
    """The opened models with their layers as `spec` stacks them; in memory a layer that is there twice is there once."""
    if not spec.stack:
        return replace(plain, spec=spec)
    layout = layout_of(spec)
    base, *tuned = (stacked_member(member, layout.sources) for member in (plain.base, *plain.tuned, plain.base))
    base = replace(base, config=stacked_config(base.config, layout.sources))
    recipe = replace(plain, spec=spec, base=base, tuned=tuned, layout=layout)
    held, blocks = renumbered(plain.in_memory, layout.sources), dict[str, Block]()
    for slot in recipe.slots() if held else ():
        own, models = held[slot.name]
        blocks[slot.name] = own, [[*models, own][place] for place in recipe.takers(slot)]
    return replace(recipe, in_memory=blocks)


def layout_of(spec: MergeSpec) -> Layout:
    """The layout of a spec that stacks layers."""
    return laid_out(spec.stack, spec.base, [given.model for given in spec.models], cast(Merge, spec.merge).most)


def refusals(spec: MergeSpec) -> list[str]:
    """Why the method does not take the models and weights, of the whole or of a slice; nothing is opened for it."""
    method = cast(Merge, spec.merge)
    if wrong := [*no_gpu(spec), *_one_for_all(spec)]:
        return wrong
    if method.factored and (spec.stack or spec.tokenizer != "same"):
        return [f"{method.title()} merges adapters of one base, which have its layers and its tokens. Leave stack and tokenizer out."]
    if not spec.stack:
        ends = (("", None), ("", 0.0), ("", 1.0))
        return list(dict.fromkeys(sentence for end in ends for sentence in method.mistakes(spec.at(*end)[1])))
    if method.whole:
        return [
            f"{method.title()} makes one model of whole ones, so no layers can be stacked. Leave `stack` out, or choose another method."
        ]
    layout = layout_of(spec)
    if method.across() and len({frozenset(some) for some in (*layout.takers, layout.before, layout.behind)}) > 1:
        return [f"{method.title()} looks at all layers together, so all slices need the same models. Name the same ones in each slice."]
    found = []
    for layer, number in enumerate(layout.slices):
        asked = _weighed(spec, "", _depth(layer, len(layout.slices)), layout.takers[number])
        found += [f"stack.{number}: {sentence}" for sentence in asked]
    found = found or [*_weighed(spec, "", None, layout.before), *_weighed(spec, "norm.", None, layout.behind)]
    return list(dict.fromkeys(found))


def _one_for_all(spec: MergeSpec) -> list[str]:
    """Why some numbers cannot differ from tensor to tensor: the method wants them once, for all tensors together."""
    method = cast(Merge, spec.merge)
    if method.whole and (spec.vary or any(isinstance(given.weight, list) for given in spec.models)):
        return [f"{method.title()} makes one model of whole ones, so each number is one for all tensors. Give one number each."]
    counts = [(1000, 1000)] * len(spec.models)
    found = list[str]()
    for name, given in spec.vary.items():
        others = [type(method)(**{**method.model_dump(), name: one}) for one in numbers(given)]
        if any(own.across() != method.across() or (own.across() and own.ranks(counts) != method.ranks(counts)) for own in others):
            found.append(
                f"{method.title()} settles {name} for all tensors together, so it cannot differ between them. Give one number, or let it "
                "look at each tensor alone, if it has a knob for that."
            )
    return found


def _matched(spec: MergeSpec, opened: list[Member], places: Sequence[str]) -> tuple[list[Member], Vocabulary]:
    references = [spec.base, *(given.model for given in spec.models)]
    kept = 0 if spec.tokenizer in ("base", "union") else references.index(spec.tokenizer)
    return matched(opened, [_folder(place) for place in places], kept, spec.tokenizer == "union")


def _folder(place: str) -> Path:
    return Path(place.partition("+")[0])


def _weighed(spec: MergeSpec, name: str, depth: float | None, takers: Sequence[int]) -> list[str]:
    weights = [*spec.at(name, depth)[1], 1.0]
    return cast(Merge, spec.merge).mistakes([weights[place] for place in takers])


def _unstackable(spec: MergeSpec, base: Member) -> list[str]:
    """Why the base's layers cannot be stacked so."""
    wrong = unclear(base)
    found = [f"stack: {wrong}"] if wrong else list(beyond(spec.stack, layers_of(base), base.label))
    sources = layout_of(spec).sources
    return found or list(misfits(base.config, stacked_config(base.config, sources), sources))


def _largest(shape: tuple[int, ...], block: int | None = None) -> int:
    """Numbers in the largest block of a tensor."""
    return math.prod(shape[1:]) * max((stop - start for start, stop in spans(shape, block)), default=0)


def _moved(block: Block, device: torch.device) -> Block:
    base, tuned = block
    return base.to(device), [model.to(device) for model in tuned]


def _tuned(members: Sequence[Member], name: str, start: int, raw: Sequence[Tensor], device: torch.device) -> Block:
    """The tuned rows of each member on a device, from those in the files, which are moved there first."""
    rows = [member.tuned(name, start, part.to(device)) for member, part in zip(members, raw, strict=True)]
    return rows[0], rows[1:]


def _part(rows: Tensor, start: int, stop: int) -> Tensor:
    return rows[start:stop] if rows.dim() else rows


def _depth(layer: int, layers: int) -> float:
    return layer / (layers - 1) if layers > 1 else 1.0


def _slot(name: str, layers: int) -> Slot:
    layer = layer_of(name)
    if layer is None:
        return Slot(name, None, None, layers)
    return Slot(name, _depth(layer, layers), layer, layers)
