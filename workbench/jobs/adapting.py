"""Several LoRA adapters of one base into one: exactly, cut to a rank, or with A and B merged apart; written as a peft folder.

The merged change of a matrix is that of the merged model. Where the method adds changes up (`core/additive.py`) the factors stand side by
side, exact until `rank` cuts them; any other works on ΔW a piece of rows at a time, and what comes of it is cut to `rank`, because it has
full rank. One that is asked with factors gives factors, exact until `rank` cuts them too. A matrix that one adapter leaves alone is one
that it changes by zero. In the terms of peft's `add_weighted_adapter` [R]:

    cat                           task_arithmetic (or linear with normalise off), rank 0
    svd                           the same with a rank; singular values are not clamped here
    linear                        task_arithmetic, of: factors; equal to the last digits
    ties, dare_*                  ties, dare with of: factors        *_svd: with of: changes and a rank
    magnitude_prune(_svd)         breadcrumbs without outliers, in the same two ways

What differs on purpose [O]: TIES votes with the weights and takes a weighted mean, where peft votes without them and divides by how many
agree; equal sizes are trimmed together; DARE's draws belong to a seed and places; a single adapter is not silently taken as linear; a
name that is taken is refused, where peft says nothing and keeps the old one. As in peft, of: factors gives A and B the root of weight
and scale, A the sign, and every result has alpha = rank. A method's own scale acts on A and on B there, so on the change as its square.
Memory: the adapters, and with the dense road one change for each thread. Tags: [R] read in peft 0.21.2, [O] our own choice.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.jobs.adaptable import matrices
from workbench.jobs.crew import side_by_side
from workbench.jobs.factored import Matrices
from workbench.jobs.ingredients import Recipe
from workbench.jobs.mergecard import write_adapter_files
from workbench.jobs.roads import Piece, Road
from workbench.materials.factors import Cut, added, cut, cut_dense, half_weights, halves
from workbench.materials.lora import PREFIX, Factors
from workbench.materials.tensors import FLOATS, NAMES, WIDTHS, ModelWriter, Planned, to_bytes
from workbench.methods.contracts import Merge, Slot

WEIGHTS = "adapter_model.safetensors"
MUCH = 0.05  # share of the change's energy whose loss is worth a second look


class Layers(Protocol):
    """What `jobs/layers.py` knows of each tensor as a whole."""

    road: Road

    def prepare(self) -> Iterator[None]: ...
    def measured(self, slot: Slot) -> Iterator[tuple[Slot, Piece] | None]: ...
    def asked(
        self, verb: Callable[[Slot, Tensor, list[Tensor], list[float]], Tensor], slot: Slot, piece: Piece, weights: list[float]
    ) -> Tensor: ...
    def unmoved(self) -> Iterator[Noted]: ...
    def table(self) -> Table: ...


@dataclass(frozen=True)
class _Merged:
    """The merged change of one matrix, and rows of the table that explain it, if `Layers` has none."""

    cut: Cut
    rows: list[list[object]]
    columns: list[str]


def adapt(recipe: Recipe, target: Path, layers: Layers) -> Iterator[Event]:
    """Write the merged adapter to `target`, whole or not at all; the last events are Table("layers", …) and Made("adapter", …).

    The table has `rank` and `lost`, the share of the merged change's energy that the cut left out, beside what explains the method.
    """
    touched = set(matrices(recipe.tuned))
    slots = [slot for slot in recipe.slots() if slot.name in touched]
    yield Started(len(slots), _about(recipe, slots, layers.road))
    merged: dict[str, _Merged] = {}
    apart = recipe.spec.of == "factors"
    for _ in () if apart else layers.prepare():
        yield Progress(0, len(slots), "looking through the models")
    road = _apart if apart else _together
    done = 0
    with closing(side_by_side([partial(road, recipe, slot, layers, merged) for slot in slots], layers.road.threads)) as steps:
        for step in steps:
            done += step
            yield Progress(done, len(slots), "matrices")
    found = {slot.name: merged[slot.name] for slot in slots}
    sides = _sides({name: one.cut.factors for name, one in found.items()})
    plan = _plan(recipe, sides)
    whole = 1 + sum(planned.size for planned in plan)  # peft reads one file
    with ModelWriter(target, plan, shard=whole, file=WEIGHTS) as writer:
        for planned in plan:
            writer.write(planned.name, _rounded(sides[planned.name], planned))
            yield Progress(done, len(slots), "matrices")
        write_adapter_files(recipe, writer.partial, {_module(name): one.cut.rank for name, one in found.items()})
        if not apart:
            yield from layers.unmoved()
            yield from layers.road.notes()
        if recipe.spec.rank:
            yield _kept({name: one.cut for name, one in found.items()}, recipe.spec.rank)
        yield _table(found, layers.table())
        writer.commit()
    yield Made("adapter", str(target))


# The roads of one matrix; both put what comes of it into `merged` and yield 1 for it, 0 for a breath.


def _together(recipe: Recipe, slot: Slot, layers: Layers, merged: dict[str, _Merged]) -> Iterator[int]:
    """The method on the changes ΔW themselves, or on their factors if it is asked with these."""
    if isinstance(layers, Matrices):
        merged[slot.name] = _Merged(_shortened(recipe, slot, layers.change(slot)), [], [])
        yield 1
        return
    method, weights = recipe.at(slot)
    adds = isinstance(method, Additive) and method.adds()
    known, changes = slot, list[Tensor]()
    for step in layers.measured(slot):
        yield 0
        if step is None:
            continue
        known, piece = step
        if not adds:
            changes.append(layers.asked(partial(_change, method), known, piece, weights))
    if adds and isinstance(method, Additive):
        held = zip(method.shares(known, weights), recipe.tuned, strict=True)
        whole = added([(share, member.lora.factors[slot.name]) for share, member in held if slot.name in member.lora.factors])
        found = _shortened(recipe, slot, whole)
    else:
        _check_finite(slot, *changes)
        found = layers.road.do(slot.name, lambda device: cut_dense([change.to(device) for change in changes], recipe.spec.rank))
    merged[slot.name] = _Merged(found, [], [])
    yield 1


def _apart(recipe: Recipe, slot: Slot, layers: Layers, merged: dict[str, _Merged]) -> Iterator[int]:
    """The method on the A's, then on the B's, each a tensor of its own whose base is zero."""
    method, weights = recipe.at(slot)
    pairs = [halves(member.lora.factors[slot.name]) if slot.name in member.lora.factors else None for member in recipe.tuned]
    like = next(pair for pair in pairs if pair is not None)
    sides, rows, columns = [], [], list[str]()
    for place, (side, roots) in enumerate(zip("AB", half_weights(weights), strict=True)):
        base = torch.zeros_like(like[place], dtype=torch.float32)
        tuned = [base if pair is None else pair[place].float() for pair in pairs]
        here = replace(slot, name=_name(slot.name, side))
        here = method.known(here, base, tuned, roots)
        sides.append(method.tensor(here, base, tuned, roots).double())
        told = method.explain(here, base, tuned, roots)
        rows.append([here.name, slot.layer, slot.depth, f"{_module(slot.name).rpartition('.')[2]}.{side}", *told.values()])
        columns = list(told)
        yield 0
    found = _shortened(recipe, slot, Factors(sides[1], sides[0]))
    merged[slot.name] = _Merged(found, rows, columns)
    yield 1


def _change(method: Merge, slot: Slot, base: Tensor, tuned: list[Tensor], weights: list[float]) -> Tensor:
    return (method.tensor(slot, base, tuned, weights) - base).cpu()


def _shortened(recipe: Recipe, slot: Slot, factors: Factors) -> Cut:
    _check_finite(slot, factors.left, factors.right)
    return cut(factors, recipe.spec.rank) if recipe.spec.rank else Cut(factors, 0.0, 0.0)


def _check_finite(slot: Slot, *tensors: Tensor) -> None:
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        raise WorkbenchError(
            f"What the merge makes of {slot.name} holds NaN or Inf. Either one of the adapters does (use a checkpoint from before its "
            "training broke), or the weights are too large."
        )


# What comes out.


def _sides(held: dict[str, Factors]) -> dict[str, Tensor]:
    """The factors by peft's names."""
    return {PREFIX + _name(name, side): tensor for name, pair in held.items() for side, tensor in (("A", pair.right), ("B", pair.left))}


def _plan(recipe: Recipe, sides: dict[str, Tensor]) -> list[Planned]:
    format = "F32" if recipe.spec.dtype == "as base" else NAMES[recipe.spec.dtype]
    return [Planned(name, format, tuple(tensor.shape), tensor.numel() * WIDTHS[format]) for name, tensor in sides.items()]


def _rounded(tensor: Tensor, planned: Planned) -> memoryview:
    kind, largest = FLOATS[planned.format], float(tensor.abs().max())
    if largest > torch.finfo(kind).max:
        raise WorkbenchError(
            f"The merged {planned.name} has numbers too large for {planned.format}: the largest is {largest:.3g}. "
            "Use smaller weights, or write the adapter as float32."
        )
    return to_bytes(tensor.to(kind).contiguous())


def _kept(cuts: dict[str, Cut], rank: int) -> Noted:
    """How much of the merged change is there, and where most is missing."""
    energy = math.fsum(one.energy for one in cuts.values())
    lost = math.fsum(one.energy * one.lost for one in cuts.values()) / energy if energy else 0.0
    worst = max(cuts, key=lambda name: cuts[name].lost)
    text = f"With rank {rank} the adapter keeps {1 - lost:.2%} of the merged change's energy"
    if cuts[worst].lost == 0:
        return Noted(text + ".", "info")
    words = f"{text}; most is missing in {worst}, {cuts[worst].lost:.2%}. A larger rank keeps more."
    return Noted(words, "watch" if lost > MUCH else "info")


def _table(found: dict[str, _Merged], measured: Table) -> Table:
    """What explains the method, with `rank` and `lost`: a row for each matrix, or two where A and B were merged apart."""
    own = next((one.columns for one in found.values() if one.columns), None)
    columns = measured.columns if own is None else [*measured.columns[:4], *own]
    rows = [[*row, one.cut.rank, one.cut.lost] for one in found.values() for row in one.rows]
    rows += [[*row, found[row[0]].cut.rank, found[row[0]].cut.lost] for row in measured.rows]
    return Table("layers", [*columns, "rank", "lost"], rows)


def _about(recipe: Recipe, slots: Sequence[Slot], road: Road) -> dict[str, object]:
    return {
        "method": recipe.method.title(),
        "base": recipe.base.label,
        "models": [member.label for member in recipe.tuned],
        "matrices": len(slots),
        "of": recipe.spec.of,
        "rank": recipe.spec.rank or "exact",
        "device": str(road.device),
    }


def _module(name: str) -> str:
    return name.removesuffix(".weight")


def _name(name: str, side: str) -> str:
    """`model.layers.0.mlp.up_proj.weight` → `model.layers.0.mlp.up_proj.lora_A.weight`."""
    return f"{_module(name)}.lora_{side}.weight"
