"""Fisher information by block and part: how strongly single rows pull at the weights, in the base and as tuned.

What it is not: the adapter that trains the blocks with the most of it (`adapters/surgical.py`, after arXiv:2310.17041), or the whole Fisher
matrix: its diagonal, summed. Tags as in the project's notes: [K] known, [P] the abstract of that paper, [D] derived, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.evidence import Batch, gradients
from workbench.materials.models import label_table, weights_by_module
from workbench.materials.packing import IGNORED
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

BASE, TIMES = "the base", "times the base's"
Sums = dict[tuple[int, str], tuple[float, int]]
"""By block and part, the mean over rows of the sum of squares, and how many numbers there are."""


class Fisher(LooksAtRows, Inspection, title="Fisher information"):
    """See which blocks and parts of a model single rows pull at most: those that a further tuning on them would move first.

    $$F_\\ell = \\frac{1}{|\\theta_\\ell|} \\sum_{i \\in \\ell} \\frac{1}{N} \\sum_n
    \\left(\\frac{\\partial \\log p(y_n \\mid x_n)}{\\partial \\theta_i}\\right)^2$$

    The diagonal of the Fisher information, per number of a block or part [K]; each of the N rows is read alone, because in a batch's
    gradient what rows disagree on would cancel. The blocks with the most of it are the ones to train, one to five of them, and their order
    hardly changes while a model learns [P]. About a hundred rows are usual [O]. log p is the mean over a row's learnt tokens, so that a
    long answer weighs no more than a short one [O].

    With the rows' own answers this is the empirical Fisher information: it falls to nothing where a model has learnt the rows, whatever
    they still mean to it [D]. With `own answers` each token of the answer is drawn from the model, with the row before it as it is [O]:
    that is the Fisher information itself, which tells how much the model's answers hang on a weight [K].
    """

    pictures = (
        Picture("by layer", "bars", "Fisher information by block", x="layer", y="share of all"),
        Picture("by part", "heat", "Fisher information per number (powers of ten over the mean)", x="part", y="layer", value="decades"),
    )
    still = {"times the base's": 1.0}

    own_answers: bool = knob(False, help="draw the answers from each model instead of taking those of the rows")

    def costs(self) -> str:
        drawn = ", and forward once more to draw the answers" if self.own_answers else ""
        return f"Reads up to {self.most_rows} rows one by one, forward and backward, with each model, the base too{drawn}."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        rows, places, parts = subject.evidence.batches(self.rows, size=1), list[list[Any]](), list[list[Any]]()
        totals, strongest = dict[str, float](), dict[str, list[Any]]()
        for place, label in enumerate([BASE, *subject.labels]):
            sums = yield from self._read(subject, place, rows)
            totals[label] = sum(own for own, _ in sums.values()) / sum(count for _, count in sums.values())
            found = _by_layer(label, sums)
            places += found
            parts += [[label, *where, own / count, _decades(own / count, totals[label])] for where, (own, count) in sums.items()]
            strongest[label] = max(found, key=lambda row: row[2])
        each = ["Fisher information per number"]
        tables = [
            Table("by layer", ["model", "layer", *each, "share of all", "place"], places),
            Table("by part", ["model", "layer", "part", *each, "decades"], parts),
        ]
        numbers = {label: _numbers(totals[label], totals[BASE]) for label in subject.labels}
        what = "Answers of its own" if self.own_answers else "The rows"
        return Finding([_said(what, label, numbers[label], strongest) for label in subject.labels], tables, numbers)

    def _read(self, subject: Subject, place: int, rows: Sequence[Batch]) -> Generator[Progress, None, Sums]:
        """Of the base, which is at place 0, or of a tuned model, which is let go."""
        model = subject.tuned(place - 1) if place else subject.base
        return (yield from _sums(model, (yield from drawn(model, rows, subject.seed)) if self.own_answers else rows))


def drawn(model: PreTrainedModel, rows: Sequence[Batch], seed: int) -> Generator[Progress, None, list[Batch]]:
    """The rows with each learnt token's label drawn from the model; what it reads stays as it is."""
    chance, found = torch.Generator().manual_seed(seed), list[Batch]()
    for done, row in enumerate(rows):
        yield Progress(done, len(rows), "answers drawn")
        with torch.no_grad():
            shares = label_table(model, row).double().exp().cpu()
        said = torch.multinomial(shares, 1, generator=chance)[:, 0].to(row["labels"].device)
        labels = row["labels"].clone()
        labels[:, 1:][row["labels"][:, 1:] != IGNORED] = said
        found.append({**row, "labels": labels})
    return found


def _sums(model: PreTrainedModel, rows: Sequence[Batch]) -> Generator[Progress, None, Sums]:
    """Over the parameters inside the blocks."""
    inside = {name: ((layer, part), own) for name, part, layer, own in weights_by_module(model) if layer >= 0}
    squares = {where: torch.zeros((), dtype=torch.float64, device=own.device) for where, own in inside.values()}
    counts = dict.fromkeys(squares, 0)
    for where, own in inside.values():
        counts[where] += own.numel()

    def take(name: str, gradient: Tensor) -> None:
        squares[inside[name][0]] += gradient.double().square().sum() / len(rows)

    yield from gradients(model, inside, rows, take)
    return {where: (float(own), counts[where]) for where, own in squares.items()}


def _by_layer(label: str, sums: Sums) -> list[list[Any]]:
    """Of each block its information per number, its share of all and its place from the strongest, from the first block on."""
    whole = sum(own for own, _ in sums.values()) or 1.0
    rows = list[list[Any]]()
    for layer in sorted({layer for layer, _ in sums}):
        own, count = (sum(each) for each in zip(*(found for (place, _), found in sums.items() if place == layer), strict=True))
        rows.append([label, layer, own / count, own / whole])
    ordered = sorted(rows, key=lambda row: (-row[2], row[1]))
    return [[*row, ordered.index(row) + 1] for row in rows]


def _decades(own: float, mean: float) -> float | None:
    """Powers of ten above or below the mean; None of nothing."""
    return math.log10(own / mean) if own else None


def _numbers(own: float, base: float) -> dict[str, float]:
    return {"Fisher information": own} | ({"times the base's": own / base} if base else {})


def _said(what: str, label: str, numbers: dict[str, float], strongest: dict[str, list[Any]]) -> str:
    own, base = strongest[label], strongest[BASE]
    if not numbers["Fisher information"]:
        return f"{what} pull at no weight of {label}: it is as sure of them as numbers can be, or its weights do not reach them."
    times = f", on the whole {numbers[TIMES]:.3g} times as much as at the base" if TIMES in numbers else ""
    moved = "as in the base" if own[1] == base[1] else f"in the base at block {base[1]}"
    return f"{what} pull most at block {own[1]} of {label} ({own[3]:.0%} of all, {moved}){times}."
