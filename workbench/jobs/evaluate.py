"""How often models answer the questions of data sets rightly, and how surprised they are by the right answers.

Each model is loaded once and asked all questions, greedily, some at a time. Tables grow as it goes, so what was answered is kept if it is
stopped: `SCORES` by model and task, `ANSWERS` one by one, `AGAINST` the first model, and standard tasks (`harness.py`). What it is not:
what counts as right (`core/marking.py`), or a quick look at a few rows (`scoring.py`).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.asking import EvaluationSet
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Noted, Progress, Started, Table
from workbench.core.marking import by_chance, compiled, right
from workbench.core.picture import Picture
from workbench.core.ratings import wilson
from workbench.core.spec import EvaluateSpec
from workbench.core.words import count
from workbench.core.workspace import Workspace
from workbench.jobs import harness
from workbench.jobs.inspect import NUMBERS, base_of
from workbench.jobs.machine import share_cores
from workbench.jobs.scoring import held_back, of_runs, short
from workbench.materials.corpus import Example
from workbench.materials.corpus import load as load_data
from workbench.materials.evidence import Batch
from workbench.materials.models import POCKET, load, resolve
from workbench.materials.models import tokenizer as load_tokenizer
from workbench.materials.odds import label_logp
from workbench.materials.packing import IGNORED, pad
from workbench.materials.precision import place
from workbench.materials.rows import QUESTIONS
from workbench.materials.speaking import spoken
from workbench.materials.templates import Encoded, encode_all, prompt_ids

SCORES, ANSWERS, AGAINST, STANDARD = "scores", "answers", "against the first model", "standard tasks"
HEADS = {
    SCORES: ["model", "set", "task", "rows", "right", "from", "to", "loss (nats per token)"],
    ANSWERS: ["set", "task", "row", "question", "wanted", "model", "answer", "right", "loss (nats per token)"],
    AGAINST: ["model", "set", "both right", "only the first", "only this one", "neither", "by chance"],
}
PICTURES = (
    Picture(SCORES, "bars", "How many answers are right", x="task", y="right"),
    Picture(SCORES, "bars", "How surprising the right answers are", x="task", y="loss (nats per token)"),
    Picture(STANDARD, "bars", "Standard tasks", x="task", y="value"),
)


@dataclass(frozen=True)
class Asked:
    """One question: `row` is its place in the set from 1; `wanted` the right answer, None where nobody knows one; `encoded` the row with
    its answer, None where there is none to be read."""

    set: str
    task: str
    row: int
    example: Example
    question: str
    wanted: str | None
    how: EvaluationSet
    encoded: Encoded | None

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """The turns that the answer follows on."""
        turns = list(self.example.messages)
        return turns if self.example.format == QUESTIONS else turns[:-1]


@dataclass(frozen=True)
class Answered:
    """What a model said, and whether it is right, None where nobody knows; `surprise` and `tokens` are the nats of the right answer, and
    how many tokens it has."""

    answer: str
    right: bool | None
    surprise: float
    tokens: int

    @property
    def loss(self) -> float | None:
        return self.surprise / self.tokens if self.tokens else None


def evaluate(spec: EvaluateSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """Ask the models, one after the other."""
    refs = [resolve(reference, workspace) for reference in spec.models]
    tokenizer = load_tokenizer(refs[0])
    asked = questions(spec, tokenizer, workspace)
    book = harness.known(spec.tasks, workspace) if spec.tasks else None
    yield Started(len(asked) * len(refs), {"models": spec.models, "questions": len(asked), "tasks": spec.tasks})
    device, dtype = place()
    answers, standard = dict[str, list[Answered]](), list[list[Any]]()
    for number, ref in enumerate(refs):
        yield Progress(number * len(asked), len(asked) * len(refs), f"loading {ref.label}")
        model = load(ref, device, dtype)
        share_cores(model)
        words = load_tokenizer(ref)
        if words.get_vocab() != tokenizer.get_vocab():
            raise WorkbenchError(
                f"{ref.label} has other tokens than {refs[0].label}, so their losses cannot be held against each other. "
                "Evaluate models of one family together, the others in a run of their own."
            )
        label = ref.label if ref.label not in answers else f"{ref.label} ({ref.reference})"
        own = answers[label] = []
        for start in range(0, len(asked), spec.batch_size):
            own += answered(model, tokenizer, asked[start : start + spec.batch_size], spec.max_tokens)
            yield Progress(number * len(asked) + len(own), len(asked) * len(refs), "questions answered")
        for done, task in enumerate(spec.tasks):
            yield Progress(number * len(spec.tasks) + done, len(spec.tasks) * len(refs), f"asking {task}")
            found = harness.results(model, words, task, book, spec.most_rows, spec.batch_size, spec.seed)
            standard += [[label, *line] for line in found]
        del model
        yield from tables(asked, answers, standard)
    says = said(asked, answers, standard)
    yield from (Noted(sentence) for sentence in says)
    yield Finished("finished", says[0])


def questions(spec: EvaluateSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace) -> list[Asked]:
    """What is asked, some rows of each set drawn by the seed.

    Raises:
        WorkbenchError: a set is not there, has no questions with answers, or lacks the column with the right ones.
    """
    found = [one for how, name, rows in _sets(spec, workspace) for one in _asked(how, name, rows, spec, tokenizer)]
    if not found and not spec.tasks:
        raise WorkbenchError("There is nothing to ask: name a data set whose rows have a question, in sets.")
    return found


def _sets(spec: EvaluateSpec, workspace: Workspace) -> Iterator[tuple[EvaluationSet, str, list[Example]]]:
    for how in spec.sets:
        yield how, short(how.data), list(load_data(how.data, workspace, {}).examples)
    if not spec.sets and not spec.tasks:
        for name, rows in held_back(of_runs(spec.models, workspace), workspace):
            yield EvaluationSet(data=name), f"{name}, held back", list(rows)
        if POCKET in spec.models or POCKET in _bases(spec.models, workspace):
            yield EvaluationSet(data="known"), "known", list(load_data("known", workspace, {}).examples)


def _bases(models: Sequence[str], workspace: Workspace) -> Iterator[str]:
    for model in models:
        if model.startswith(("run:", "model:")):
            yield base_of(model, workspace)


def _asked(
    how: EvaluationSet, name: str, rows: Sequence[Example], spec: EvaluateSpec, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Asked]:
    there = [(number, row) for number, row in enumerate(rows, 1) if _asks(row)]
    drawn = sorted(random.Random(spec.seed).sample(range(len(there)), min(how.most_rows, len(there))))
    encoded = encode_all(tokenizer, [there[spot][1] for spot in drawn], "last_answer", spec.max_length)
    for spot, own in zip(drawn, encoded, strict=True):
        number, row = there[spot]
        read = own if isinstance(own, Encoded) and any(own.trained[1:]) else None
        yield Asked(name, str(row.meta.get(how.by, name)), number, row, row.question(), _wanted(how, row, number), how, read)


def _asks(row: Example) -> bool:
    return bool(row.messages) and (row.format == QUESTIONS or row.messages[-1]["role"] == "assistant")


def _wanted(how: EvaluationSet, row: Example, number: int) -> str | None:
    if not how.column:
        return None if row.format == QUESTIONS else str(row.messages[-1]["content"] or "")
    if how.column not in row.meta:
        raise WorkbenchError(
            f"Row {number} of {how.data} has no column {how.column!r}; it has {', '.join(map(str, row.meta)) or 'none but its messages'}. "
            "Name the column with the right answers, or leave it empty."
        )
    wanted = str(row.meta[how.column])
    if how.scorer == "matches":
        compiled(wanted, f"Row {number} of {how.data}: {how.column}")
    return wanted


def answered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], most: int) -> list[Answered]:
    """What the model says to each, and how surprised it is by what it should say."""
    said = spoken(model, tokenizer, [prompt_ids(tokenizer, one.prompt) for one in asked], most)
    read = [one.encoded for one in asked if one.encoded is not None]
    nats = iter(surprises(model, pad(read, tokenizer.pad_token_id or 0)) if read else [])
    found = []
    for one, answer in zip(asked, said, strict=True):
        surprise, tokens = next(nats) if one.encoded is not None else (0.0, 0)
        found.append(Answered(answer, _right(one, answer), surprise, tokens))
    return found


def _right(one: Asked, answer: str) -> bool | None:
    taken = compiled(one.how.pattern, "pattern") if one.how.pattern else None
    return None if one.wanted is None else right(one.how.scorer, one.wanted, answer, taken)


@torch.no_grad()
def surprises(model: PreTrainedModel, batch: Batch) -> list[tuple[float, int]]:
    """Of each row the nats of its answer, and the tokens that it has."""
    rows = {name: tensor.to(model.device) for name, tensor in batch.items()}
    learnt = rows["labels"][:, 1:] != IGNORED
    nats = torch.zeros(learnt.shape, dtype=torch.float64, device=model.device)
    nats[learnt] = -label_logp(model, rows).double()
    return list(zip(nats.sum(1).tolist(), learnt.sum(1).tolist(), strict=True))


def tables(asked: Sequence[Asked], answers: dict[str, list[Answered]], standard: list[list[Any]]) -> Iterator[Table]:
    """What is known so far."""
    if standard:
        yield Table(STANDARD, harness.HEAD, standard)
    if asked:
        yield from _asked_tables(asked, answers)
    numbers = [
        [model, f"{name} · {measure}", value] for model, own in answers.items() for name in _names(asked)
        for measure, value in _numbers(name, asked, own) if value is not None
    ]  # fmt: skip
    numbers += [[model, f"{task} · {measure}", value] for model, task, measure, value, *_ in standard]
    yield Table(NUMBERS, ["model", "measure", "value"], numbers)


def _asked_tables(asked: Sequence[Asked], answers: dict[str, list[Answered]]) -> Iterator[Table]:
    if known := [one for one in asked if one.wanted is not None]:
        yield Table(SCORES, HEADS[SCORES], [row for model, own in answers.items() for row in _scores(model, asked, own)])
    rows = zip(asked, *answers.values(), strict=True)
    each = ((one, model, said) for one, *saids in rows for model, said in zip(answers, saids, strict=True))
    yield Table(ANSWERS, HEADS[ANSWERS], [
        [one.set, one.task, one.row, one.question, one.wanted or "", model, said.answer, said.right, said.loss] for one, model, said in each
    ])  # fmt: skip
    first, *others = answers
    if others and known:
        yield Table(AGAINST, HEADS[AGAINST], [
            [model, name, *_against(name, asked, answers[first], answers[model])] for model in others for name in _names(known)
        ])  # fmt: skip


def _names(asked: Sequence[Asked]) -> list[str]:
    return list(dict.fromkeys(one.set for one in asked))


def _scores(model: str, asked: Sequence[Asked], answers: Sequence[Answered]) -> Iterator[list[Any]]:
    by_task: dict[tuple[str, str], list[Answered]] = {}
    for one, own in zip(asked, answers, strict=True):
        if own.right is not None:
            by_task.setdefault((one.set, one.task), []).append(own)
    for (name, task), own in by_task.items():
        good = sum(bool(one.right) for one in own)
        yield [model, name, task, len(own), good / len(own), *wilson(good, len(own)), _loss(own)]


def _loss(answers: Sequence[Answered]) -> float | None:
    tokens = sum(one.tokens for one in answers)
    return sum(one.surprise for one in answers) / tokens if tokens else None


def _numbers(name: str, asked: Sequence[Asked], answers: Sequence[Answered]) -> list[tuple[str, float | None]]:
    own = [answer for one, answer in zip(asked, answers, strict=True) if one.set == name]
    marks = [one.right for one in own if one.right is not None]
    return [("right", sum(marks) / len(marks) if marks else None), ("loss", _loss(own))]


def _against(name: str, asked: Sequence[Asked], first: Sequence[Answered], other: Sequence[Answered]) -> list[Any]:
    pairs = [(one.right, two.right) for question, one, two in zip(asked, first, other, strict=True) if question.set == name]
    both, only, this, neither = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
    return [both, only, this, neither, by_chance(only, this)]


def said(asked: Sequence[Asked], answers: dict[str, list[Answered]], standard: list[list[Any]]) -> list[str]:
    """A sentence for each model and set, and for each model and measure of a standard task."""
    found = []
    for model, own in answers.items():
        for name in _names(asked):
            (_, share), (_, loss) = _numbers(name, asked, own)
            nats = "" if loss is None else f", at {loss:.3g} nats a token of the right ones"
            questions_ = count(sum(one.set == name for one in asked), "question")
            if share is None:
                found.append(f"{model} answered {questions_} of {name}, to which no right answer is known.")
            else:
                found.append(f"{model} answers {share:.1%} of {questions_} of {name} rightly{nats}.")
    for model, task, measure, value, error, rows in standard:
        beside = "" if error is None else f" ± {error:.3g}"
        found.append(f"{model} has {value:.3g}{beside} of {measure} on {task}" + (f", over {rows} rows." if rows else "."))
    return found
