"""Standard tasks, asked by EleutherAI's lm-eval (extra `harness`): the field's own wording, few-shot rows and scores.

What it is not: a set of our own rows with a scorer (`evaluate.py`). Tasks are those that lm-eval brings, and YAML files of its kind in the
folder `tasks` of the workspace; the rows of a task must lie on this machine, or be had from the hub. lm-eval answers a task in one go, so
a run can be stopped between two tasks.
"""

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.workspace import Workspace

HEAD = ["model", "task", "measure", "value", "standard error", "rows"]
SUMMED = ",none"  # lm-eval's name of a measure without a filter behind it


def known(tasks: Sequence[str], workspace: Workspace) -> Any:
    """lm-eval's own book of tasks, which has all of these.

    Raises:
        WorkbenchError: lm-eval is not installed, or has no such task.
    """
    own = workspace.home / "tasks"
    book = _library("tasks").TaskManager(include_path=str(own) if own.is_dir() else None)
    strange = [task for task in tasks if not book.match_tasks([task])]
    if strange:
        raise WorkbenchError(
            f"lm-eval has no task called {', '.join(strange)}. `lm-eval ls tasks` lists them; tasks of your own are YAML files in {own}."
        )
    return book


def results(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: str, book: Any, most: int, batch: int, seed: int
) -> Iterator[list[Any]]:
    """(task, measure, value, standard error or None, rows) of each measure of the task, and of the tasks that it consists of.

    Raises:
        WorkbenchError: the task's rows cannot be had.
    """
    wrapped = _library("models.huggingface").HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=batch, device=str(model.device), max_length=_longest(model)
    )
    try:
        found = _library("").simple_evaluate(
            model=wrapped, tasks=[task], task_manager=book, limit=most, log_samples=False, random_seed=seed, numpy_random_seed=seed,
            torch_random_seed=seed, fewshot_random_seed=seed, verbosity="ERROR",
        )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise WorkbenchError(
            f"The task {task} cannot be asked: {' '.join(str(error).split())[:300].rstrip('.')}. Its rows must lie on this machine, in the "
            "folder of Hugging Face's datasets, or be had from the hub."
        ) from error
    for name, own in found["results"].items():
        yield from ([name, *line] for line in _measures(own, found["n-samples"].get(name, {}).get("effective")))


def _measures(own: Mapping[str, Any], rows: int | None) -> Iterator[list[Any]]:
    for key, value in own.items():
        measure, _, filtered = key.partition(",")
        if filtered and isinstance(value, int | float) and not measure.endswith("_stderr"):
            error = own.get(f"{measure}_stderr,{filtered}")
            known_error = isinstance(error, int | float) and math.isfinite(error)
            yield [
                measure if key.endswith(SUMMED) else f"{measure} ({filtered})",
                float(value),
                float(error) if known_error else None,
                rows,
            ]


def _longest(model: PreTrainedModel) -> int | None:
    return model.config.to_dict().get("max_position_embeddings")


def _library(part: str) -> ModuleType:
    """A module of lm-eval; one that is not installed is a sentence."""
    try:
        return importlib.import_module(f"lm_eval.{part}" if part else "lm_eval")
    except ModuleNotFoundError as error:
        raise WorkbenchError(
            f"Standard tasks need lm-eval, and {error.name} is not installed. Install it with: pip install 'finetune-workbench[harness]'"
        ) from error
