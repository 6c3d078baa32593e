"""A merge tried in memory: what it does to the scores of every task, to the loss on the way from the base, and to some answers.

Nothing is written. The models are opened and read once and stay in memory, so that moving a slider costs the arithmetic and a few
forward passes. Knows no merge by name.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Table
from workbench.core.job import drain
from workbench.core.method import knobs_of
from workbench.core.parts import DataSpec
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.adaptable import unfactored
from workbench.jobs.ingredients import Recipe, open_models, refusals, stacked
from workbench.jobs.listening import fused, heard, listens, unheard
from workbench.jobs.machine import memory_total
from workbench.jobs.merge import in_memory
from workbench.jobs.mergecard import config_of
from workbench.jobs.scoring import LONGEST, Score, Task, answers, held_back, losses, of_runs, share_right, tasks_of
from workbench.materials.angles import mean_cosine
from workbench.materials.corpus import load as load_data
from workbench.materials.models import POCKET, built, load, resolve
from workbench.materials.models import tokenizer as load_tokenizer
from workbench.materials.neurons import cost
from workbench.materials.tensors import task_gram
from workbench.materials.units import Heard

BASE, MERGED = "base", "merged"
WAY, WIDTHS = "way from the base to the merge", "parameters over the base's"
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)  # of the way from the base to the merged model, and a little beyond
ON_THE_WAY = 2  # rows of each task that are read on the way
ROOM = 0.4  # share of the machine's memory that the models may take
FLOAT = 4
T = TypeVar("T")


@dataclass(frozen=True)
class Tasted:
    """What a merge does. The models are `base`, each tuned one by its label, and `merged`.

    scores: by model, one for each task. path: (share of the way from the base, loss of each task on fewer rows). said: by model and
    task the answers. places: by model (x, y) with the base at the origin, as far apart as their weights are, as well as a plane can
    show it. cosines: by layer, the mean cosine between the tuned models' task vectors. table: what explains the method. along: what the
    path runs along; for a merge that changes widths it is their parameters over the base's, from one end of its first knob to the other.
    """

    tasks: list[Task]
    scores: dict[str, list[Score]]
    path: list[tuple[float, list[float]]]
    said: dict[str, list[list[str]]]
    places: dict[str, tuple[float, float]]
    cosines: list[tuple[int, float]]
    table: Table
    along: str = WAY


class NoPreview(WorkbenchError):
    """The models cannot be tried in memory, for want of room or of a common vocabulary; a merge may still be made."""


class Tasting:
    """The models of a merge in memory, and the rows on which they are held against each other."""

    def __init__(self, spec: MergeSpec, sets: Sequence[str], workspace: Workspace):
        """`sets`: data sets to score on beside the rows that the models' own runs held back, and the demo model's skills.

        Raises:
            WorkbenchError: a model cannot be opened, or they do not belong together.
            NoPreview: they do not fit into memory, or the merge has other tokens than the base.
        """
        recipe, ref = open_models(spec, workspace), resolve(spec.base, workspace)
        words = recipe.vocabulary
        if words and (words.new or words.size != words.config.get("vocab_size") or spec.tokenizer not in (spec.base, "base", "union")):
            raise NoPreview(
                "A preview of scores asks all models with the base's tokenizer, and this merge has another one. Save the merge and "
                "compare it with its base."
            )
        numbers, merged = _numbers(recipe), _numbers(stacked(recipe, spec))
        speaking = merged if spec.stack else 0  # a stack is a model of its own, beside the one that speaks for all others
        needed = FLOAT * (numbers * (len(recipe.tuned) + 2) + merged + speaking)  # base, tuned, the model that speaks; the merged
        if needed > ROOM * memory_total():
            raise NoPreview(
                f"A preview of scores holds all models in memory, and would need {needed / 1e9:.1f} GB of it, too much for this machine. "
                "Save the merge and compare it with its base, or try smaller models."
            )
        self.workspace, self.heard = workspace, dict[str, list[Heard]]()  # by the rows that were listened to last
        self.recipe, self.labels = recipe.held(), labels_of(spec, [member.label for member in recipe.tuned])
        self.model, self.tokenizer = load(ref, torch.device("cpu"), torch.float32), load_tokenizer(ref)
        self.parameters = untied(self.model, set(self.recipe.in_memory))
        self.tasks = list(self._tasks(spec, sets, workspace))
        self.scores: dict[str, list[Score]] = {}
        self.said: dict[str, list[list[str]]] = {}
        for place, label in enumerate([BASE, *self.labels]):
            self._put({name: [base, *tuned][place] for name, (base, tuned) in self.recipe.in_memory.items()})
            self.scores[label], self.said[label] = self._spoken(losses(self.model, self.tasks))

    def taste(self, spec: MergeSpec) -> Iterator[Tasted]:
        """What the merge does, first without its answers, which take longest, then with them. The models are those of the start.

        Raises:
            SpecError: the method does not take these weights, or has no rows to listen to.
        """
        mistakes = [
            *refusals(spec),
            *(() if spec.rows in self.heard else unheard(spec, self.workspace)),
            *unfactored(spec, self.recipe.base, self.recipe.tuned),
        ]
        if mistakes:
            raise SpecError(mistakes)
        recipe = stacked(self.recipe, spec)
        if recipe.method.whole or spec.stack:
            yield from self._wider(recipe) if recipe.method.whole else self._taller(recipe)
            return
        merged, table = in_memory(recipe)
        grams = {name: task_gram(base, [*tuned, merged[name]]) for name, (base, tuned) in self.recipe.in_memory.items()}
        path = [(share, self._on_the_way(merged, share)) for share in SHARES]
        self._put(merged)
        found = losses(self.model, self.tasks)
        first = Tasted(
            self.tasks, {**self.scores, MERGED: [Score(loss) for loss in found]}, path, self.said,
            placed(sum(grams.values()), [*self.labels, MERGED]), self._cosines(grams), table,
        )  # fmt: skip
        yield first
        scores, said = self._spoken(found)
        yield replace(first, scores={**self.scores, MERGED: scores}, said={**self.said, MERGED: said})

    def _wider(self, recipe: Recipe) -> Iterator[Tasted]:
        """As `taste`, for a merge of whole models: it has a model of its own, and a curve of what width is worth."""
        model, _, table = self._fused(recipe)
        found, said = losses(model, self.tasks), answers(model, self.tokenizer, self.tasks)
        scores = [Score(loss, share_right(task, own)) for loss, task, own in zip(found, self.tasks, said, strict=True)]
        grams = {name: task_gram(base, tuned) for name, (base, tuned) in self.recipe.in_memory.items()}
        first = Tasted(
            self.tasks, {**self.scores, MERGED: scores}, [], {**self.said, MERGED: said}, placed(sum(grams.values()), self.labels),
            self._cosines(grams), table, WIDTHS,
        )  # fmt: skip
        yield first
        path = []
        for spec in _along_first_knob(recipe.spec):
            model, width, _ = self._fused(replace(recipe, spec=spec))
            path.append((width, losses(model, [_few(task) for task in self.tasks])))
        yield replace(first, path=sorted(path))

    def _taller(self, recipe: Recipe) -> Iterator[Tasted]:
        """As `taste`, for stacked layers: a model of its own, to which no straight way leads from the base."""
        merged, table = in_memory(recipe)
        model = built(config_of(recipe), merged)
        found = losses(model, self.tasks)
        grams = {name: task_gram(base, tuned) for name, (base, tuned) in self.recipe.in_memory.items()}
        first = Tasted(
            self.tasks, {**self.scores, MERGED: [Score(loss) for loss in found]}, [], self.said, placed(sum(grams.values()), self.labels),
            self._cosines(grams), table,
        )  # fmt: skip
        yield first
        said = answers(model, self.tokenizer, self.tasks)
        scores = [Score(loss, share_right(task, own)) for loss, task, own in zip(found, self.tasks, said, strict=True)]
        yield replace(first, scores={**self.scores, MERGED: scores}, said={**self.said, MERGED: said})

    def _fused(self, recipe: Recipe) -> tuple[PreTrainedModel, float, Table]:
        """The model that comes out, its parameters over the base's, and what explains it."""
        rows = recipe.spec.rows
        if listens(recipe.spec) and rows not in self.heard:
            self.heard = {rows: drain(heard(recipe, self.workspace))}
        tensors, config, table = drain(fused(recipe, self.heard.get(rows, [])))
        return built(config, tensors), cost(config)[0] / cost(recipe.base.config)[0], table

    def _tasks(self, spec: MergeSpec, sets: Sequence[str], workspace: Workspace) -> Iterator[Task]:
        of_tuned = of_runs([given.model for given in spec.models], workspace)
        given = [*of_tuned, *((DataSpec(path=path, validation_share=0.5), 0, spec.base) for path in sets)]
        for name, rows in held_back(given, workspace):
            yield from tasks_of(name, rows, self.tokenizer, LONGEST)
        if spec.base == POCKET:
            yield from tasks_of("known", load_data("known", workspace, {}).examples, self.tokenizer, LONGEST)

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.parameters[name].copy_(tensor)

    def _on_the_way(self, merged: Mapping[str, Tensor], share: float) -> list[float]:
        self._put({name: torch.lerp(base, merged[name], share) for name, (base, _) in self.recipe.in_memory.items()})
        return losses(self.model, [_few(task) for task in self.tasks])

    def _spoken(self, found: Sequence[float]) -> tuple[list[Score], list[list[str]]]:
        """Scores and answers of the model as it is, whose losses are known."""
        said = answers(self.model, self.tokenizer, self.tasks)
        return [Score(loss, share_right(task, own)) for loss, task, own in zip(found, self.tasks, said, strict=True)], said

    def _cosines(self, grams: Mapping[str, Tensor]) -> list[tuple[int, float]]:
        """By layer the mean cosine between pairs of task vectors; nothing for a single model."""
        count, by_layer = len(self.labels), dict[int, Tensor]()
        for slot in self.recipe.slots():
            if slot.layer is not None:
                products = grams[slot.name][1 : 1 + count, 1 : 1 + count]
                by_layer[slot.layer] = by_layer.get(slot.layer, torch.zeros_like(products)) + products
        return [(layer, float(mean_cosine(products))) for layer, products in sorted(by_layer.items())] if count > 1 else []


def _numbers(recipe: Recipe) -> int:
    return sum(math.prod(recipe.base.shape(slot.name)) for slot in recipe.slots())


def labels_of(spec: MergeSpec, labels: Sequence[str]) -> list[str]:
    """What the tuned models are called; two of one name are told apart by their references."""
    return [f"{label} ({given.model})" if labels.count(label) > 1 else label for label, given in zip(labels, spec.models, strict=True)]


def untied(model: nn.Module, names: set[str]) -> dict[str, nn.Parameter]:
    """The model's parameters by name; its head gets numbers of its own where it is one of `names` and shared the embeddings'."""
    head = model.get_output_embeddings()
    if "lm_head.weight" in names and head.weight is model.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
    return dict(model.named_parameters())


def placed(gram: Tensor, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Where the models lie in the plane that shows most of their task vectors, in shares of the base's norm; the base at the origin."""
    size = float(gram[0, 0].sqrt()) or 1.0
    values, vectors = torch.linalg.eigh(gram[1:, 1:])
    axes = torch.zeros(len(names), 2, dtype=torch.float64)
    kept = min(2, len(names))
    axes[:, :kept] = (vectors * values.clamp(min=0).sqrt()).flip(1)[:, :kept]
    axes *= torch.where(axes.sum(0) < 0, -1.0, 1.0)  # an axis has no sign of its own: most lie to the right and above
    return {BASE: (0.0, 0.0)} | {name: (float(x) / size, float(y) / size) for name, (x, y) in zip(names, axes, strict=True)}


def _along_first_knob(spec: MergeSpec) -> Iterator[MergeSpec]:
    """The spec with its method's first knob at quarters from 0 to 1, as far as it takes them."""
    name = knobs_of(type(spec.merge))[0].name
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        with suppress(SpecError):
            yield MergeSpec.parse({**spec.model_dump(mode="json"), "merge": {**spec.merge.chosen(), name: share}})


def _few(task: Task) -> Task:
    return replace(task, rows={name: tensor[:ON_THE_WAY] for name, tensor in task.rows.items()})


class Tastings:
    """The last merge's models stay open, so that a moved slider need not open them again. One at a time; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[object, ...] = ()
        self._open: Tasting | None = None

    def taste(self, spec: MergeSpec, sets: Sequence[str], workspace: Workspace) -> Iterator[Tasted | None]:
        """As `Tasting.taste`; None comes first where models have to be opened, which takes a while."""
        yield from self.with_open(spec, sets, workspace, lambda tasting: tasting.taste(spec))

    def with_open(
        self, spec: MergeSpec, sets: Sequence[str], workspace: Workspace, work: Callable[[Tasting], Iterator[T]]
    ) -> Iterator[T | None]:
        """What `work` does with the open models; None comes first where they have to be opened. Others wait until it is done."""
        key = (spec.base, *(given.model for given in spec.models), *map(str, spec.stack), spec.tokenizer, *sets, workspace.home)
        with self._lock:
            if key != self._key:
                yield None
                self._key, self._open = (), None  # let the old ones go before the new ones come
                self._open, self._key = Tasting(spec, sets, workspace), key
            assert self._open is not None
            yield from work(self._open)
