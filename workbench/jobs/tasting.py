"""A merge tried in memory: what it does to the scores of every task, to the loss on the way from the base, and to some answers.

Nothing is written. The models are opened and read once and stay in memory, so that moving a slider costs the arithmetic and a few
forward passes, in the numbers that models are asked in everywhere (`materials/precision.py`). What takes long is told while it grows:
scores over the first rows before those over all of them, answers word by word, the loss on the way point by point. Knows no merge by name.
"""

import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.additive import Additive
from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Table
from workbench.core.job import drain
from workbench.core.method import knobs_of
from workbench.core.parts import DataSpec
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.adaptable import unfactored
from workbench.jobs.crew import side_by_side
from workbench.jobs.glimpses import Glimpse
from workbench.jobs.ingredients import Recipe, open_models, refusals, stacked
from workbench.jobs.layers import Grams, in_memory
from workbench.jobs.listening import fused, heard, listens, unheard
from workbench.jobs.machine import memory_total
from workbench.jobs.mergecard import SIDE_FILES, config_of
from workbench.jobs.scoring import LONGEST, Score, Task, held_back, losses, of_runs, tasks_of
from workbench.jobs.tasted import BASE, MERGED, ON_THE_WAY, WIDTHS, Taste, Tasted, cosines, placed, with_sum
from workbench.materials.corpus import load as load_data
from workbench.materials.models import POCKET, ModelRef, built, load, resolve
from workbench.materials.models import tokenizer as load_tokenizer
from workbench.materials.neurons import cost
from workbench.materials.precision import place
from workbench.materials.tensors import task_gram
from workbench.materials.units import Heard
from workbench.methods.contracts import Slot

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)  # of the way from the base to the merged model, and a little beyond
ROOM = 0.4  # share of the machine's memory that the models may take
FLOAT = 4


class NoPreview(WorkbenchError):
    """The models cannot be tried in memory, for want of room; a merge may still be made."""


class Tasting:
    """The models of a merge in memory, and the rows on which they are held against each other."""

    def __init__(self, spec: MergeSpec, sets: Sequence[str], workspace: Workspace):
        """`sets`: data sets to score on beside the rows that the models' own runs held back, and the demo model's skills.

        Raises:
            WorkbenchError: a model cannot be opened, or they do not belong together.
            NoPreview: they do not fit into memory.
        """
        recipe, ref = open_models(spec, workspace), resolve(spec.base, workspace)
        _fits(recipe, spec)
        self.workspace, self.heard = workspace, dict[str, list[Heard]]()  # by the rows that were listened to last
        self.recipe, self.labels = recipe.held(), labels_of(spec, [member.label for member in recipe.tuned])
        self.grams: Grams = {}
        self.model, self.tokenizer = speaker(self.recipe, ref)
        self.parameters = untied(self.model, set(self.recipe.in_memory))
        self.holds: object = None  # whose weights are in the model that speaks
        self.tasks = list(self._tasks(spec, sets, workspace))
        self.most = max((len(task.rows["labels"]) for task in self.tasks), default=0)  # rows of a task
        self.pace: float | None = None  # seconds that a model took for a row of every task
        held = self.recipe.in_memory
        self.known: dict[str, Glimpse] = {}
        for number, label in enumerate([BASE, *self.labels]):
            self.known[label] = Glimpse(partial(self._speaking, {name: [base, *tuned][number] for name, (base, tuned) in held.items()}))
        self.merged = {name: torch.empty_like(base) for name, (base, _) in held.items()}

    @property
    def scores(self) -> dict[str, list[Score]]:
        """Of the base and the tuned models over all rows; those that they have not read, they read now."""
        for glimpse in self.known.values():
            glimpse.look(self.tasks, self.most)
        return {label: glimpse.scores(self.tasks, self.most) for label, glimpse in self.known.items()}

    def losses(self, spec: MergeSpec) -> list[float]:
        """Nats a token of the merged model on each task, over all rows; raises as `taste`."""
        merged = self._begun(spec).glimpses[MERGED]
        merged.look(self.tasks, self.most)
        return merged.losses(self.most)

    def taste(self, spec: MergeSpec, patience: float = math.inf) -> Iterator[Tasted]:
        """What the merge does: when the scores are there, at the end, and whenever nothing was told for `patience` seconds.

        The models are those of the start.

        Raises:
            SpecError: the method does not take these weights, or has no rows to listen to.
        """
        last = time.monotonic()
        taste = self._begun(spec)
        for number, stage in enumerate((self._read(taste, patience), self._answered(taste), self._gone(taste))):
            for _ in stage:
                if time.monotonic() - last >= patience:
                    yield taste.told()
                    last = time.monotonic()
            if number == taste.first:
                yield taste.told()
                last = time.monotonic()
        yield taste.told()

    def _read(self, taste: Taste, patience: float) -> Iterator[None]:
        """Rows of every task, by all models that have not read them: one of each first, then at least as many again, more if there is
        time for them."""
        while taste.rows < self.most:
            readers = sum(glimpse.rows <= taste.rows for glimpse in taste.glimpses.values())
            count = max(1, taste.rows, int(min(self.most, patience / (readers * self.pace)) if self.pace else 0))
            began, rows = time.monotonic(), min(self.most, taste.rows + count)
            for glimpse in taste.glimpses.values():
                glimpse.look(self.tasks, rows)
            self.pace = max(1e-6, time.monotonic() - began) / (readers * (rows - taste.rows))
            taste.rows = rows
            yield

    def _answered(self, taste: Taste) -> Iterator[None]:
        """The answers of all models that have not given theirs, the merged one's first."""
        for glimpse in reversed(taste.glimpses.values()):
            if not glimpse.ended:
                yield from glimpse.speak(self.tasks, self.tokenizer)

    def _gone(self, taste: Taste) -> Iterator[None]:
        for losses_there in taste.way:
            taste.path.append(losses_there)
            yield

    def _begun(self, spec: MergeSpec) -> Taste:
        mistakes = [
            *refusals(spec),
            *(() if spec.rows in self.heard else unheard(spec, self.workspace)),
            *unfactored(spec, self.recipe.base, self.recipe.tuned),
        ]
        if mistakes:
            raise SpecError(mistakes)
        recipe = stacked(self.recipe, spec)
        if recipe.method.whole:
            return self._wider(recipe)
        return self._taller(recipe) if spec.stack else self._plain(recipe)

    def _plain(self, recipe: Recipe) -> Taste:
        """A merge of the base's shape, to which a straight way leads."""
        merged, table = in_memory(recipe, self.merged, self.grams)
        self.holds = None if self.holds is merged else self.holds
        begun = self._pictured(self._grams(recipe, merged), [*self.labels, MERGED], table)
        glimpses = {**self.known, MERGED: Glimpse(partial(self._speaking, merged))}
        return Taste(begun, glimpses, self._between(merged), ends=True)

    def _wider(self, recipe: Recipe) -> Taste:
        """A merge of whole models: it has a model of its own, and a curve of what width is worth."""
        model, _, table = self._fused(recipe)
        begun = replace(self._pictured(self._grams(recipe), self.labels, table), along=WIDTHS)
        return Taste(begun, {**self.known, MERGED: Glimpse(lambda: model)}, self._widths(recipe), first=1)

    def _taller(self, recipe: Recipe) -> Taste:
        """Stacked layers: a model of its own, to which no straight way leads from the base."""
        merged, table = in_memory(recipe)
        model = built(config_of(recipe), merged)
        begun = self._pictured(self._grams(recipe), self.labels, table)
        return Taste(begun, {**self.known, MERGED: Glimpse(lambda: model)}, iter(()))

    def _pictured(self, grams: Mapping[str, Tensor], names: Sequence[str], table: Table) -> Tasted:
        """What is known before any model has read a row."""
        along = cosines(self.recipe.slots(), grams, len(self.labels))
        return Tasted(self.tasks, {}, [], {}, placed(sum(grams.values()), names), along, table)

    def _between(self, merged: Mapping[str, Tensor]) -> Iterator[tuple[float, list[float]]]:
        """Losses on the way from the base to the merge and beyond it, but for its two ends. The merged model is put back behind it."""
        room = torch.empty(max(tensor.numel() for tensor in merged.values()))
        for share in SHARES:
            if self.tasks and share not in (0.0, 1.0):
                blocks = ((name, base, room[: base.numel()].view_as(base)) for name, (base, _) in self.recipe.in_memory.items())
                self._put((name, torch.lerp(base, merged[name], share, out=into)) for name, base, into in blocks)
                yield share, _lost(self.model, self.tasks)
        self._speaking(merged)

    def _widths(self, recipe: Recipe) -> Iterator[tuple[float, list[float]]]:
        for spec in _along_first_knob(recipe.spec):
            model, width, _ = self._fused(replace(recipe, spec=spec))
            yield width, _lost(model, self.tasks)

    def _fused(self, recipe: Recipe) -> tuple[PreTrainedModel, float, Table]:
        """The model that comes out, its parameters over the base's, and what explains it."""
        rows = recipe.spec.rows
        if listens(recipe.spec) and rows not in self.heard:
            self.heard = {rows: drain(heard(recipe, self.workspace))}
        tensors, config, table = drain(fused(recipe, self.heard.get(rows, [])))
        return built(config, tensors), cost(config)[0] / cost(recipe.base.config)[0], table

    def _grams(self, recipe: Recipe, merged: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """By tensor the inner products of base and task vectors, and if it is given of the merged one's too."""
        slots = self.recipe.slots()
        found = dict(side_by_side([partial(self._gram, recipe, slot, merged) for slot in slots]))
        return {slot.name: found[slot.name] for slot in slots}

    def _gram(self, recipe: Recipe, slot: Slot, merged: Mapping[str, Tensor] | None) -> Iterator[tuple[str, Tensor]]:
        base, tuned = self.recipe.in_memory[slot.name]
        known = next((gram for rough in (False, True) if (gram := self.grams.get((slot.name, rough))) is not None), None)
        method, weights = recipe.at(slot) if merged else (None, [])
        if merged and known is not None and isinstance(method, Additive) and method.adds():
            yield slot.name, with_sum(known, method.shares(replace(slot, gram=known), weights))
        elif merged:
            yield slot.name, task_gram(base, [*tuned, merged[slot.name]], rough=True)
        else:
            yield slot.name, task_gram(base, tuned, rough=True) if known is None else known

    def _tasks(self, spec: MergeSpec, sets: Sequence[str], workspace: Workspace) -> Iterator[Task]:
        of_tuned = of_runs([given.model for given in spec.models], workspace)
        given = [*of_tuned, *((DataSpec(path=path, validation_share=0.5), 0, spec.base) for path in sets)]
        for name, rows in held_back(given, workspace):
            yield from tasks_of(name, rows, self.tokenizer, LONGEST)
        if spec.base == POCKET:
            yield from tasks_of("known", load_data("known", workspace, {}).examples, self.tokenizer, LONGEST)

    def _speaking(self, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
        """The model with these weights."""
        if self.holds is not tensors:
            self._put(tensors.items())
            self.holds = tensors
        return self.model

    @torch.no_grad()
    def _put(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        self.holds = None
        for name, tensor in tensors:
            self.parameters[name].copy_(tensor)


def speaker(recipe: Recipe, ref: ModelRef) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that speaks for all of them, and the merge's tokenizer; with other tokens than the base's, a model of that many rows."""
    device, numbers = place(path=ref.path)
    if recipe.vocabulary is None:
        return load(ref, device, numbers), load_tokenizer(ref)
    with TemporaryDirectory() as folder:
        for name in SIDE_FILES:
            if (recipe.folder / name).exists():
                shutil.copyfile(recipe.folder / name, Path(folder, name))
        recipe.vocabulary.write(Path(folder))
        words = load_tokenizer(ModelRef("", recipe.base.label, folder))
    return built({**config_of(recipe), "dtype": "float32"}, {}).to(device, numbers), words


def labels_of(spec: MergeSpec, labels: Sequence[str]) -> list[str]:
    """What the tuned models are called; two of one name are told apart by their references."""
    return [f"{label} ({given.model})" if labels.count(label) > 1 else label for label, given in zip(labels, spec.models, strict=True)]


def untied(model: nn.Module, names: set[str]) -> dict[str, nn.Parameter]:
    """The model's parameters by name; its head gets numbers of its own where it is one of `names` and shared the embeddings'."""
    head = model.get_output_embeddings()
    if "lm_head.weight" in names and head.weight is model.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
    return dict(model.named_parameters())


def _fits(recipe: Recipe, spec: MergeSpec) -> None:
    """Raises `NoPreview` where the models would take too much of the machine's memory."""
    numbers, merged = _numbers(recipe), _numbers(stacked(recipe, spec))
    speaking = merged if spec.stack else 0  # a stack is a model of its own, beside the one that speaks for all others
    needed = FLOAT * (numbers * (len(recipe.tuned) + 2) + merged + speaking)  # base, tuned, the model that speaks; the merged
    if needed > ROOM * memory_total():
        raise NoPreview(
            f"A preview of scores holds all models in memory, and would need {needed / 1e9:.1f} GB of it, too much for this machine. "
            "Save the merge and compare it with its base, or try smaller models."
        )


def _numbers(recipe: Recipe) -> int:
    return sum(math.prod(recipe.base.shape(slot.name)) for slot in recipe.slots())


def _along_first_knob(spec: MergeSpec) -> Iterator[MergeSpec]:
    """The spec with its method's first knob at quarters from 0 to 1, as far as it takes them."""
    name = knobs_of(type(spec.merge))[0].name
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        with suppress(SpecError):
            yield MergeSpec.parse({**spec.model_dump(mode="json"), "merge": {**spec.merge.chosen(), name: share}})


def _lost(model: PreTrainedModel, tasks: Sequence[Task]) -> list[float]:
    """Nats a token on the rows that are read on the way."""
    return losses(model, [replace(task, rows={name: tensor[:ON_THE_WAY] for name, tensor in task.rows.items()}) for task in tasks])
