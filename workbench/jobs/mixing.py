"""Rows to learn from, out of one data set or several: each set's steps, its split, its tokens, and how often each set is seen.

What it is: the way from a data recipe to encoded rows for the training loop, and the plan of a mixture for the page. What it is not: it
draws no batch and knows no model. A set's share is one of tokens, and an epoch has as many tokens as all sets together have.
"""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from transformers import PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.recipe import measured
from workbench.jobs.steps import sifted
from workbench.materials.corpus import split
from workbench.materials.rows import Chosen, Example
from workbench.materials.templates import Encoded, encode_all


@dataclass(frozen=True)
class Portion:
    """A set of a mixture: its `share` of the tokens of an epoch (0 to 1), and how often an epoch sees each of its rows."""

    name: str
    rows: int
    tokens: int
    weight: float
    share: float
    epochs: float


@dataclass(frozen=True)
class Learning:
    """Encoded rows for training and for validation, the task of each, and the questions that answers may be sampled to."""

    train: list[Encoded] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    held: list[Encoded] = field(default_factory=list)
    held_tasks: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)


def learning(
    spec: TrainSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, most_held: int
) -> Generator[Progress, None, Learning]:
    """What the run learns from; at most `most_held` rows are held back for the validation loss, evenly from all sets.

    Raises:
        WorkbenchError: a set has nothing to learn, or cannot be had.
    """
    parts = [part for part in spec.data.parts() if part.weight > 0]
    sets = []
    for part in parts:
        sets.append((yield from _of_set(part, spec, tokenizer, workspace, -(-most_held // len(parts)))))
    if len(sets) == 1:
        return sets[0]
    planned = portions(parts, [len(one.train) for one in sets], [sum(len(row.ids) for row in one.train) for one in sets])
    draw, mixed = random.Random(spec.seed), Learning()
    for one, portion in zip(sets, planned, strict=True):
        seen = repeated(len(one.train), portion.epochs, draw)
        mixed.train.extend(one.train[row] for row in seen)
        mixed.tasks.extend(one.tasks[row] for row in seen)
        mixed.held.extend(one.held)
        mixed.held_tasks.extend(one.held_tasks)
    mixed.prompts.extend(prompt for turn in zip_longest(*(one.prompts for one in sets)) for prompt in turn if prompt)
    return mixed


def planned(
    spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, model: str
) -> Generator[Progress, None, list[Portion]]:
    """The portions of a recipe's mixture, from the tokens of the first rows of each set; none where there is but one set."""
    parts, rows, tokens = [part for part in spec.parts() if part.weight > 0], [], []
    for part in parts if spec.mix else ():
        data = yield from sifted(part, workspace, model)
        found = yield from measured(data, part, tokenizer)
        rows.append(len(data.kept))
        tokens.append(round((sum(found.lengths) - sum(found.cut)) / max(1, len(found.rows)) * len(data.kept)))
    return portions(parts, rows, tokens) if spec.mix else []


def portions(parts: Sequence[DataSpec], rows: Sequence[int], tokens: Sequence[int]) -> list[Portion]:
    """How the weights divide an epoch that has as many tokens as all sets together."""
    weights, every = sum(part.weight for part in parts), sum(tokens)
    found = []
    for part, count, own in zip(parts, rows, tokens, strict=True):
        share = part.weight / weights if weights else 0.0
        found.append(Portion(part.path, count, own, part.weight, share, share * every / own if own else 0.0))
    return found


def repeated(count: int, epochs: float, draw: random.Random) -> list[int]:
    """Rows of a set of `count` as often as an epoch sees them: all of them whole times, and a draw of them for what is left."""
    whole = int(epochs)
    return [*range(count)] * whole + sorted(draw.sample(range(count), round((epochs - whole) * count)))


def _of_set(
    data: DataSpec, spec: TrainSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, most_held: int
) -> Generator[Progress, None, Learning]:
    found = yield from sifted(data, workspace, spec.model)
    train, validation = split(Chosen(found.examples, found.kept), data.validation_share, spec.seed)
    rows, of = yield from encoded(tokenizer, train, data)
    if not rows:
        raise WorkbenchError(
            f"The data set {data.path!r} has no row with a token to learn ({len(train)} rows were looked at). "
            "Either every answer is empty, or the longest row allowed cuts them all off: look at the Data tab, or raise data.max_length."
        )
    held, of_held = yield from encoded(tokenizer, validation[:most_held], data)
    usual = data.path if spec.data.mix else ""  # the loss of each set of a mixture is plotted apart

    def tasks(examples: Sequence[Example]) -> list[str]:
        return [str(example.meta.get(data.task, usual)) if data.task else usual for example in examples]

    return Learning(rows, tasks(of), held, tasks(of_held), questions(validation or train))


def encoded(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], data: DataSpec
) -> Generator[Progress, None, tuple[list[Encoded], list[Example]]]:
    """The rows as tokens, and the same rows as they were.

    Rows with nothing to learn, and rows that the template refuses, are left out (the Data tab names them).
    """
    rows, of = [], []
    for index, row in enumerate(encode_all(tokenizer, examples, data.train_on, data.max_length)):
        if isinstance(row, Encoded) and any(row.trained[1:]):
            rows.append(row)
            of.append(examples[index])
        if index % 200 == 0:
            yield Progress(index, len(examples), "rows read")
    return rows, of


def questions(examples: Sequence[Example]) -> list[str]:
    """The first user turns of conversations, to sample answers to."""
    turns = (next((m["content"] for m in example.messages if m["role"] == "user"), "") for example in examples)
    return list(dict.fromkeys(turn for turn in turns if turn))
