"""Rows to learn from, out of one data set or several: each set's steps, its split, its tokens, and how often each set is seen.

What it is: the way from a data recipe to encoded rows for the training loop, and the plan of a mixture for the page. What it is not: it
draws no batch and knows no model. A set's share is one of tokens, and an epoch has as many tokens as all sets together have. Within each
set the classes of rows may be drawn equally often (`balancing.py`).
"""

import heapq
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from transformers import PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.balancing import Classes, class_of, classes, draws, refuse
from workbench.jobs.batches import Draw
from workbench.jobs.recipe import measured
from workbench.jobs.steps import parted, sifted
from workbench.materials.corpus import digest
from workbench.materials.rows import Chosen, Example
from workbench.materials.templates import Encoded, encode_all


@dataclass(frozen=True)
class Portion:
    """A set of a mixture: its `share` of the tokens of an epoch (0 to 1), how often an epoch sees each of its rows on average, and the
    classes that are drawn equally often, if some are."""

    name: str
    rows: int
    tokens: int
    weight: float
    share: float
    epochs: float
    classes: Classes | None = None


@dataclass(frozen=True)
class Learning:
    """Encoded rows for training and for validation, the task of each, and the questions that answers may be sampled to.

    `names` are the classes of the training rows, "" where they have none; `draws` is what an epoch takes of them, all where it is empty.
    """

    train: list[Encoded] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)
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
    if spec.data.balance:
        found = []
        for part in parts:
            found.append((yield from classes((yield from sifted(part, workspace, spec.model)), part.balance)))
        refuse(found)
    sets = []
    for part in parts:
        sets.append((yield from _of_set(part, spec, tokenizer, workspace, -(-most_held // len(parts)))))
    return sets[0] if len(sets) == 1 and not spec.data.balance else _mixed(parts, sets)


def _mixed(parts: Sequence[DataSpec], sets: Sequence[Learning]) -> Learning:
    """All sets as one: every row once, and what an epoch takes of each set by its weight, and of each class of it."""
    tokens = [round(sum(draw.often * _mean_length(one.train, draw) for draw in draws(one.names))) for one in sets]
    mixed = Learning()
    for one, portion in zip(sets, portions(parts, [len(one.train) for one in sets], tokens), strict=True):
        first = len(mixed.train)
        mixed.draws.extend(Draw([first + row for row in draw.rows], draw.often) for draw in draws(one.names, portion.epochs))
        mixed.train.extend(one.train)
        mixed.tasks.extend(one.tasks)
        mixed.names.extend(one.names)
        mixed.held.extend(one.held)
        mixed.held_tasks.extend(one.held_tasks)
    mixed.prompts.extend(prompt for turn in zip_longest(*(one.prompts for one in sets)) for prompt in turn if prompt)
    return mixed


def _mean_length(rows: Sequence[Encoded], draw: Draw) -> float:
    return sum(len(rows[row].ids) for row in draw.rows) / len(draw.rows)


def planned(
    spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, model: str
) -> Generator[Progress, None, list[Portion]]:
    """The portions of a recipe's mixture, from the tokens of the first rows of each set, and the classes that are drawn equally often;
    none where there is but one set without them."""
    parts, rows, tokens, found = [part for part in spec.parts() if part.weight > 0], [], [], []
    for part in parts if spec.mix or spec.balance else ():
        data = yield from sifted(part, workspace, model)
        read = yield from measured(data, part, tokenizer)
        rows.append(min(len(data.kept), part.most_rows or len(data.kept)))
        tokens.append(round((sum(read.lengths) - sum(read.cut)) / max(1, len(read.rows)) * rows[-1]))
        found.append((yield from classes(data, part.balance)) if part.balance else None)
    return [replace(portion, classes=one) for portion, one in zip(portions(parts, rows, tokens), found, strict=True)] if found else []


def portions(parts: Sequence[DataSpec], rows: Sequence[int], tokens: Sequence[int]) -> list[Portion]:
    """How the weights divide an epoch that has as many tokens as all sets together."""
    weights, every = sum(part.weight for part in parts), sum(tokens)
    found = []
    for part, count, own in zip(parts, rows, tokens, strict=True):
        share = part.weight / weights if weights else 0.0
        found.append(Portion(part.path, count, own, part.weight, share, share * every / own if own else 0.0))
    return found


def _of_set(
    data: DataSpec, spec: TrainSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, most_held: int
) -> Generator[Progress, None, Learning]:
    found = yield from sifted(data, workspace, spec.model)
    train, validation = yield from parted(found, data.validation_share, spec.seed)
    train = some(train, data.most_rows, spec.seed)
    rows, of = yield from encoded(tokenizer, train, data)
    if not rows:
        raise WorkbenchError(
            f"The data set {data.path!r} has no row with a token to learn ({len(train)} rows were looked at). "
            "Either every answer is empty, or the longest row allowed cuts them all off: look at the Data tab, or raise data.max_length."
        )
    apart = validation[:most_held]
    held, of_held = yield from encoded(tokenizer, apart, data)
    usual = data.path if spec.data.mix else ""  # the loss of each set of a mixture is plotted apart
    column = data.task or data.balance  # and that of each class

    def classes_of(examples: Chosen, column: str) -> list[str]:
        return [class_of(example, column) for example in examples] if column else [""] * len(examples)

    return Learning(
        train=rows,
        tasks=[own or usual for own in classes_of(Chosen(train, of), column)],
        names=classes_of(Chosen(train, of), data.balance),
        held=held,
        held_tasks=[own or usual for own in classes_of(Chosen(apart, of_held), column)],
        prompts=questions(validation or train),
    )


def encoded(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], data: DataSpec
) -> Generator[Progress, None, tuple[list[Encoded], list[int]]]:
    """The rows as tokens, and which of the examples they are.

    Rows with nothing to learn, and rows that the template refuses, are left out (the Data tab names them).
    """
    rows, of = list[Encoded](), list[int]()
    for index, row in enumerate(encode_all(tokenizer, examples, data.train_on, data.max_length)):
        if isinstance(row, Encoded) and any(row.trained[1:]):
            rows.append(row)
            of.append(index)
        if index % 200 == 0:
            yield Progress(index, len(examples), "rows read")
    return rows, of


def some(examples: Chosen, most: int, seed: int) -> Chosen:
    """At most so many of the rows, in their order; all for 0. The draw goes by what a row says and the seed: fewer are part of more."""
    if not most or most >= len(examples):
        return examples
    places = ((digest(f"{seed} some\n{example.as_text()}"), row) for row, example in enumerate(examples))
    return Chosen(examples, sorted(row for _, row in heapq.nsmallest(most, places)))


def questions(examples: Sequence[Example]) -> list[str]:
    """The first user turns of conversations, to sample answers to."""
    turns = (next((m["content"] for m in example.messages if m["role"] == "user"), "") for example in examples)
    return list(dict.fromkeys(turn for turn in turns if turn))
