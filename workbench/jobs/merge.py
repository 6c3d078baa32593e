"""Several tuned models of one base into one model: reads, asks the method, rounds once and writes, a block of rows at a time.

Memory depends on the number of models and not on their size. The model appears in the workspace whole or not at all: it is
written to `NAME.partial` and renamed. Each tensor is read once for its inner products and, if it is larger than a block, once
more for the merge. What a merge is, stands in `methods/merges`; this module knows none of them by name.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.materials.family import Member, differences, open_member, same_head
from workbench.materials.models import layer_of, resolve
from workbench.materials.tensors import FLOATS, NAMES, WIDTHS, ModelWriter, Planned, read_bytes, spans, task_gram, to_bytes
from workbench.methods.contracts import Merge, Slot

SIDE_FILES = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip

Block = tuple[Tensor, list[Tensor]]
"""The same rows of the base and of every tuned model, float32."""


@dataclass(frozen=True)
class Recipe:
    """A spec whose models are open and belong together."""

    spec: MergeSpec
    folder: Path  # the base's, where config and tokenizer come from
    base: Member
    tuned: list[Member]

    @property
    def method(self) -> Merge:
        return cast(Merge, self.spec.merge)

    @property
    def weights(self) -> list[float]:
        return [model.weight for model in self.spec.models]

    def slots(self) -> list[Slot]:
        """The tensors that are merged, in the order of the base's file. A model of one block has depth 1."""
        names = self.base.merged_names()
        layers = 1 + max((layer for name in names if (layer := layer_of(name)) is not None), default=-1)
        return [_slot(name, layers) for name in names]

    def plan(self) -> list[Planned]:
        """All tensors that are written, the merged ones and those copied from the base."""
        return [self._planned(name) for name in self.base.entries]

    def read(self, name: str, start: int, stop: int) -> Block:
        return self.base.rows(name, start, stop), [member.rows(name, start, stop) for member in self.tuned]

    def _planned(self, name: str) -> Planned:
        entry, shape = self.base.entries[name], self.base.shape(name)
        if self.base.is_buffer(name):
            return Planned(name, entry.format, shape, entry.size)
        format = entry.format if self.spec.dtype == "as base" else NAMES[self.spec.dtype]
        return Planned(name, format, shape, math.prod(shape) * WIDTHS[format])


def merge(spec: MergeSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """Write the merged model to `workspace.model(spec.name)`; the last events are Table("layers", …) and Made("model", …).

    A recipe that cannot be carried out is a `SpecError` with all its mistakes, before anything is written; NaN or Inf in a weight,
    a value too large for `dtype`, and a full disk are `WorkbenchError`s, and nothing is left of the model then, nor when the
    generator is closed. Progress counts bytes written. The run's own `folder` is not used: a merged model outlives its run.
    """
    target = workspace.model(spec.name)
    recipe = open_recipe(spec, workspace, _taken(target))
    plan = recipe.plan()
    total, done = sum(tensor.size for tensor in plan), 0
    yield Started(total, _about(recipe, plan))
    layers = _Layers(recipe)
    slots = {slot.name: slot for slot in recipe.slots()}
    with ModelWriter(target, plan) as writer:
        for tensor in plan:
            for data in _written(recipe, tensor, slots.get(tensor.name), layers):
                writer.write(data)
                done += len(data)
                yield Progress(done, total, "bytes")
        _write_side_files(recipe, writer.partial)
        yield from layers.unmoved()
        yield layers.table()
        writer.commit()
    yield Made("model", str(target))


def preview(spec: MergeSpec, workspace: Workspace) -> Table:
    """The table that `merge` would yield, with nothing written; it reads every weight once (twice where blocks are needed)."""
    recipe = open_recipe(spec, workspace)
    layers = _Layers(recipe)
    for slot in recipe.slots():
        for _ in layers.measured(slot):
            pass
    return layers.table()


def open_recipe(spec: MergeSpec, workspace: Workspace, mistakes: Sequence[str] = ()) -> Recipe:
    """The spec with its models opened, or a `SpecError` with these and all other mistakes."""
    method = cast(Merge, spec.merge)
    found = [*mistakes, *method.mistakes([model.weight for model in spec.models])]
    members: list[Member | None] = []
    folder = ""
    for place, reference in [("base", spec.base), *((f"models.{number}", given.model) for number, given in enumerate(spec.models))]:
        try:
            ref = resolve(reference, workspace)
            folder = folder or ref.path
            members.append(open_member(ref))
        except WorkbenchError as error:
            found.append(f"{place}: {error}")
            members.append(None)
    opened = same_head([member for member in members if member is not None])
    if members[0] is not None:
        found += [sentence for other in opened[1:] for sentence in differences(opened[0], other)]
    if found:
        raise SpecError(list(dict.fromkeys(found)))
    return Recipe(spec, Path(folder), opened[0], opened[1:])


class _Layers:
    """What explains the merge, tensor by tensor, as it goes."""

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._rows: list[list[object]] = []
        self._columns: list[str] = []
        self._moved = [0.0] * len(recipe.tuned)

    def measured(self, slot: Slot) -> Iterator[tuple[Slot, Block] | None]:
        """The tensor's blocks, each with the slot that holds the gram of the whole; None is a breath while that is taken."""
        ranges = spans(self._recipe.base.shape(slot.name))
        gram = torch.zeros(len(self._moved) + 1, len(self._moved) + 1, dtype=torch.float64)
        block: Block | None = None
        for start, stop in ranges:
            block = self._recipe.read(slot.name, start, stop)
            gram += task_gram(*block)
            yield None
        _check_finite(self._recipe, slot.name, gram)
        known = replace(slot, gram=gram)
        told: list[tuple[int, dict[str, float]]] = []
        for start, stop in ranges:
            if block is None or len(ranges) > 1:
                block = self._recipe.read(slot.name, start, stop)
            told.append((stop - start, self._recipe.method.explain(known, *block, self._recipe.weights)))
            yield known, block
        self._add(slot, gram.diagonal().tolist(), told)

    def unmoved(self) -> Iterator[Noted]:
        """A word about each model that is the base itself."""
        for member, moved in zip(self._recipe.tuned, self._moved, strict=True):
            if moved == 0:
                text = f"{member.label} does not differ from the base {self._recipe.base.label}, so it adds nothing to the merge."
                yield Noted(text, "watch")

    def table(self) -> Table:
        return Table("layers", ["tensor", "layer", "depth", "module", *self._columns], self._rows)

    def _add(self, slot: Slot, squares: list[float], told: list[tuple[int, dict[str, float]]]) -> None:
        if not told:
            return
        self._columns = list(told[0][1])
        rows = sum(count for count, _ in told)
        means = [math.fsum(count * numbers[name] for count, numbers in told) / rows for name in self._columns]
        self._rows.append([slot.name, slot.layer, slot.depth, _module(slot), *means])
        self._moved = [total + square for total, square in zip(self._moved, squares[1:], strict=True)]


def _written(recipe: Recipe, tensor: Planned, slot: Slot | None, layers: _Layers) -> Iterator[memoryview | bytearray]:
    """The bytes of one tensor of the merged model, piece by piece; empty pieces are breaths. Without a slot it is copied."""
    if slot is None:
        yield read_bytes(recipe.base.entries[tensor.name])
        return
    for step in layers.measured(slot):
        if step is None:
            yield bytearray()
            continue
        known, (base, tuned) = step
        yield _rounded(recipe.method.tensor(known, base, tuned, recipe.weights), tensor)


def _rounded(merged: Tensor, tensor: Planned) -> memoryview:
    low, high = torch.aminmax(merged)
    largest = float(torch.maximum(-low, high))
    if not largest <= torch.finfo(FLOATS[tensor.format]).max:  # so that NaN is refused too
        raise WorkbenchError(
            f"The merged {tensor.name} has numbers too large for {tensor.format}: the largest is {largest:.3g}. "
            "Use smaller weights, or write the model as float32."
        )
    return to_bytes(merged.to(FLOATS[tensor.format]))


def _slot(name: str, layers: int) -> Slot:
    layer = layer_of(name)
    if layer is None:
        return Slot(name, None, None, layers)
    return Slot(name, layer / (layers - 1) if layers > 1 else 1.0, layer, layers)


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


def _write_side_files(recipe: Recipe, folder: Path) -> None:
    """What makes a folder of weights a model: tokenizer, generation settings, the recipe, a card; config.json comes last."""
    for name in SIDE_FILES:
        if (recipe.folder / name).exists():
            shutil.copyfile(recipe.folder / name, folder / name)
    (folder / "merge.yaml").write_text(recipe.spec.to_yaml(), encoding="utf-8")
    (folder / "README.md").write_text(_card(recipe), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_config(recipe), indent=2) + "\n", encoding="utf-8")


def _config(recipe: Recipe) -> dict[str, object]:
    config = dict(recipe.base.config)
    if recipe.spec.dtype != "as base":
        config.pop("torch_dtype", None)  # the name of older versions of transformers
        config["dtype"] = recipe.spec.dtype
    if recipe.base.has_head:
        config["tie_word_embeddings"] = False  # the head has its own tensor now, whatever the base's config said
    return config


def _card(recipe: Recipe) -> str:
    rows = "\n".join(f"| {member.label} | {weight:g} |" for member, weight in zip(recipe.tuned, recipe.weights, strict=True))
    knobs = ", ".join(f"{name} = {value}" for name, value in recipe.method.model_dump().items())
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [merge]\n---\n\n# {recipe.spec.name}\n\n"
        f"Merged with Finetune Workbench by [{recipe.method.title()}]({recipe.method.link()}) ({knobs or 'no knobs'}) on the base "
        f"{recipe.base.label}.\n\n| model | weight |\n|---|---|\n{rows}\n\n"
        "`merge.yaml` beside this file is the whole recipe, enough to do it again.\n"
    )
