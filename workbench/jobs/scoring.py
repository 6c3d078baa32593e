"""How a model does on a few rows of each task: its loss on what it should say, and how often it says just that.

What it is not: a benchmark. A handful of rows, the same ones each time, so that two models or two merges can be told apart at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec, read_spec
from workbench.core.workspace import Workspace
from workbench.jobs.grafts import behind
from workbench.jobs.steps import parted, sifted
from workbench.materials.corpus import Example, normalised
from workbench.materials.models import POCKET
from workbench.materials.odds import label_logp
from workbench.materials.packing import pad
from workbench.materials.speaking import spoken
from workbench.materials.templates import Encoded, encode_all, prompt_ids

READ = 8  # rows of a task whose loss is taken
ASKED = 4  # of them, questions that are answered
LONGEST = 256  # tokens of a row
KIND = "skill"  # column that parts a set into tasks


@dataclass(frozen=True)
class Question:
    """What is asked, as a person reads it and as tokens, and what should be said."""

    text: str
    ids: list[int]
    wanted: str


@dataclass(frozen=True)
class Task:
    """Rows of one kind that nobody trains on."""

    name: str
    rows: dict[str, Tensor]
    questions: list[Question]


@dataclass(frozen=True)
class Score:
    """`loss` in nats a token; `right`, the share of its answers that say what they should, None where none was asked for."""

    loss: float
    right: float | None = None


def held_out(data: DataSpec, seed: int, workspace: Workspace, model: str = POCKET) -> list[Example]:
    """The rows of the recipe's own set that a run of `model` with these settings held back: what its steps keep, as they leave it."""
    found = drain(sifted(data, workspace, model))
    return list(drain(parted(found, data.validation_share, seed))[1])


def of_runs(models: Iterable[str], workspace: Workspace) -> Iterator[tuple[DataSpec, int, str]]:
    """What those of the models that are runs here, or grafts of such, learnt from: set by set, with the seed that chose the rows they held
    back, and their base."""
    for model in models:
        kind, _, run = behind(model).partition(":")
        path = workspace.home / "runs" / run / "spec.yaml"
        if kind == "run" and path.exists():
            trained = cast(TrainSpec, read_spec(path))
            if trained.data.validation_share:
                yield from ((part, trained.seed, trained.model) for part in trained.data.parts() if part.weight > 0)


def held_back(given: Iterable[tuple[DataSpec, int, str]], workspace: Workspace) -> Iterator[tuple[str, list[Example]]]:
    """The rows of each set that nobody trains on, with the set's name; of a set that is there twice those of the first."""
    seen: set[str] = set()
    for data, seed, model in given:
        if data.path not in seen:
            seen.add(data.path)
            yield short(data.path), held_out(data, seed, workspace, model)


def short(path: str) -> str:
    """What a data set is called: its name, or that of its file."""
    return path.rstrip("/").rpartition("/")[2]


def tasks_of(name: str, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, longest: int) -> list[Task]:
    """The tasks in a set: one for each kind where a column names it, else the set itself; rows that cannot be read are left out."""
    kinds = [str(example.meta.get(KIND, name)) for example in examples]
    found = ((kind, [example for example, own in zip(examples, kinds, strict=True) if own == kind][:READ]) for kind in dict.fromkeys(kinds))
    return [task for kind, rows in found if (task := _task(kind, rows, tokenizer, longest)) is not None]


def _task(name: str, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, longest: int) -> Task | None:
    encoded = list(encode_all(tokenizer, examples, "answers", longest))
    rows = [row for row in encoded if isinstance(row, Encoded) and any(row.trained[1:])]
    asked = [example for example in examples if example.messages and example.messages[-1]["role"] == "assistant"][:ASKED]
    questions = [
        Question(example.question(), prompt_ids(tokenizer, list(example.messages[:-1])), str(example.messages[-1]["content"] or ""))
        for example in asked
    ]
    return Task(name, pad(rows, tokenizer.pad_token_id), questions) if rows else None


@torch.no_grad()
def losses(model: PreTrainedModel, tasks: Sequence[Task]) -> list[float]:
    """Nats a token on each task."""
    found = []
    for task in tasks:
        rows = {name: tensor.to(model.device) for name, tensor in task.rows.items()}
        found.append(-label_logp(model, rows).mean().item())
    return found


def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task]) -> list[list[str]]:
    """What the model says to each question of each task, with nothing left to chance; all at once."""
    asked = [question for task in tasks for question in task.questions]
    most = max((len(tokenizer(question.wanted)["input_ids"]) for question in asked), default=0) + 4
    said = iter(spoken(model, tokenizer, [question.ids for question in asked], most) if asked else [])
    return [[next(said) for _ in task.questions] for task in tasks]


def right(question: Question, answer: str) -> bool:
    """Whether that was said, but for case and spaces."""
    return normalised(question.wanted) == normalised(answer)


def share_right(task: Task, said: Sequence[str]) -> float | None:
    """The share of a task's questions that were answered as they should be."""
    marks = [right(question, answer) for question, answer in zip(task.questions, said, strict=True)]
    return sum(marks) / len(marks) if marks else None
