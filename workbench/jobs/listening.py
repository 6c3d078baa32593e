"""Models fused whole: what they are heard saying to a few rows, where the method listens, and what it then makes of them.

Heard is what each unit gives to the module that writes (`materials/units.py`), at most `HEARD` tokens in all: the same for every model, as
many of each task, and no padding. The rows are those of the data set that the spec names, or those that the models' own runs held back;
none is taken that nobody named. Knows no merge by name.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress, Table
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.ingredients import Recipe
from workbench.jobs.mergecard import config_of
from workbench.jobs.roads import Road, road_of
from workbench.jobs.scoring import LONGEST, Task, held_back, of_runs, short, tasks_of
from workbench.materials.corpus import Example, load
from workbench.materials.models import ModelRef, built, hidden_states, tokenizer
from workbench.materials.units import WRITES, Heard
from workbench.methods.contracts import Fusion, Slot

HEARD = 512  # tokens in all
WHOLE = Slot("", None, None, 0)  # a fusion asks once, for all tensors


def fused(
    recipe: Recipe, heard: Sequence[Heard], road: Road | None = None
) -> Generator[Progress, None, tuple[dict[str, Tensor], dict[str, Any], Table]]:
    """State dict and config that a merge of whole models gives, and what explains it, block by block; the recipe is in memory."""
    method, weights = recipe.at(WHOLE)
    add = (road or road_of(recipe.spec)).add_product
    tensors, config, told = yield from cast(Fusion, method).model(config_of(recipe), _states(recipe), weights, heard, add)
    last = max(1, len(told) - 1)
    rows = [[f"model.layers.{layer}", layer, layer / last, "block", *block.values()] for layer, block in enumerate(told)]
    return tensors, config, Table("layers", ["tensor", "layer", "depth", "module", *(told[0] if told else ())], rows)


def heard(recipe: Recipe, workspace: Workspace) -> Generator[Progress, None, list[Heard]]:
    """What each tuned model says, nothing where the method does not listen; the recipe is in memory, and one model at a time beside it.

    Raises:
        WorkbenchError: no row can be read by these models, or one of them says NaN or Inf.
    """
    if not listens(recipe.spec):
        return []
    speaker = tokenizer(ModelRef("", recipe.base.label, str(recipe.folder)))
    tasks = [task for name, rows in _sets(recipe.spec, workspace) for task in tasks_of(name, rows, speaker, LONGEST)]
    if not tasks:
        raise WorkbenchError(
            "None of the rows to listen to can be read with the tokenizer and the chat template of these models. Name another data set "
            "in rows."
        )
    found: list[Heard] = []
    for member, state in zip(recipe.tuned, _states(recipe), strict=True):
        yield Progress(len(found), len(recipe.tuned), "models heard")
        found.append(said(built({**config_of(recipe), "dtype": "float32"}, state), tasks))
        if not all(torch.isfinite(says).all() for says in found[-1].values()):
            raise WorkbenchError(f"{member.label} says NaN or Inf inside. Use a checkpoint from before its training broke.")
    return found


def unheard(spec: MergeSpec, workspace: Workspace) -> list[str]:
    """Why the method cannot listen, a sentence; nothing where it can, or need not. No model is opened for it."""
    if not listens(spec):
        return []
    try:
        if any(rows for _, rows in _sets(spec, workspace)):
            return []
    except WorkbenchError as error:
        return [f"rows: {error}"]
    return [
        f"rows: {spec.merge.title()} is to go by what the models say to some rows, and none of them is a run of this workspace that held "
        "rows back. Name a data set in rows, or let it go by something else."
    ]


def listens(spec: MergeSpec) -> bool:
    """Whether the spec's method wants to know what the models say."""
    method, _ = spec.at(WHOLE.name, WHOLE.depth)
    return isinstance(method, Fusion) and method.listens()


@torch.no_grad()
def said(model: PreTrainedModel, tasks: Sequence[Task]) -> Heard:
    """What the modules that write are given at the tokens that are heard."""
    noted: dict[str, list[Tensor]] = {name: [] for name, _ in model.named_modules() if name.endswith(WRITES)}
    for rows, places in picked(tasks):
        with _noting(model, places, noted):
            hidden_states(model, rows)
    return {name: torch.cat(parts) for name, parts in noted.items()}


def picked(tasks: Sequence[Task]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Of each task as many of its rows as hold its share of tokens, and where those are that are heard, in the rows end to end.

    They lie evenly among all tokens of these rows that are no padding; a task that has fewer than its share is heard whole.
    """
    share = max(1, HEARD // len(tasks))
    for task in tasks[:HEARD]:
        lengths = task.rows["attention_mask"].sum(1)
        enough = int((lengths.cumsum(0) - lengths < share).sum())
        rows = {name: tensor[:enough] for name, tensor in task.rows.items()}
        places = rows["attention_mask"].flatten().nonzero().flatten()
        count = min(share, len(places))
        yield rows, places[torch.arange(count) * len(places) // count]


@contextmanager
def _noting(model: nn.Module, places: Tensor, noted: dict[str, list[Tensor]]) -> Iterator[None]:
    """Within it, what the named modules are given at these places is noted."""
    hooks = [model.get_submodule(name).register_forward_pre_hook(partial(_note, places, parts)) for name, parts in noted.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _note(places: Tensor, parts: list[Tensor], module: nn.Module, given: tuple[Tensor, ...]) -> None:
    parts.append(given[0].flatten(0, 1)[places].float())


def _sets(spec: MergeSpec, workspace: Workspace) -> Iterator[tuple[str, list[Example]]]:
    """The rows to listen to, set by set with its name."""
    if spec.rows:
        yield short(spec.rows), load(spec.rows, workspace).examples
    else:
        yield from held_back(of_runs([given.model for given in spec.models], workspace), workspace)


def _states(recipe: Recipe) -> list[dict[str, Tensor]]:
    """The tuned models' tensors by name."""
    return [{name: block[1][place] for name, block in recipe.in_memory.items()} for place in range(len(recipe.tuned))]
