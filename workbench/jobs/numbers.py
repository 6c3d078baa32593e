"""The numbers that rows can be sorted and picked by: what describes their texts, and what the steps of the recipe went by.

What it is: a number for each row of a data set by name (`numbers`), remembered, and its distribution over some rows (`spread`). What it is
not: a step; it drops nothing and stands in no recipe. A number is named `statistic:part` (`characters:answer`) or `step:K`, K from 1.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.memory import Memory
from workbench.core.method import shelf
from workbench.jobs.steps import Curated, edges_of
from workbench.materials.statistics import STATISTICS, in_words

PARTS = ("answer", "question", "row")
CALM = 500  # rows that are measured between two signs of life

_held = Memory[Tensor](8)


@dataclass(frozen=True)
class Spread:
    """How many rows lie between each two `edges`, and how many have no such number."""

    what: str
    edges: list[float]
    counts: list[int]
    without: int


def statistics() -> list[str]:
    """The statistics there are."""
    return list(STATISTICS)


def of_steps(data: Curated) -> list[tuple[str, str]]:
    """(what a person reads, the name) of the numbers that the recipe's steps went by."""
    return [(f"step {place}: {step.scores.what}", f"step:{place}") for place, step in enumerate(data.steps, 1) if step.scores]


def numbers(data: Curated, name: str) -> Generator[Progress, None, Tensor]:
    """(N,) float64 of all N rows as the recipe leaves them, dropped ones too; NaN where a row has no such number.

    Raises:
        WorkbenchError: there is no such number.
    """
    kind, _, part = name.partition(":")
    if kind == "step":
        return _of_step(data, part)
    if kind not in STATISTICS or part not in PARTS:
        raise WorkbenchError(f"There is no number {name!r}. Choose a statistic of the answer, the question or the row, or a step's.")
    if (there := _held.get((data, name))) is not None:
        return there
    found = torch.empty(len(data.examples), dtype=torch.float64)
    for row, example in enumerate(data.examples):
        if row % CALM == 0:
            yield Progress(row, len(data.examples), "rows measured")
        found[row] = STATISTICS[kind](example.part(part))  # type: ignore[arg-type]
    return _held.put((data, name), found)


def what(data: Curated, name: str) -> str:
    """The number in words: `characters of the answer`."""
    kind, _, part = name.partition(":")
    return {key: words for words, key in of_steps(data)}[name] if kind == "step" else in_words(kind, part)


def as_step(name: str, least: float, most: float) -> dict[str, Any]:
    """The step of a recipe that keeps the rows whose statistic lies in the range; an endless end is the step's own."""
    kind, _, part = name.partition(":")
    step = next(step for step in shelf("selectors").values() if step.of_range)
    ends = {end: value for end, value in (("least", least), ("most", most)) if math.isfinite(value)}
    return {**step().chosen(), "of": kind, "text": part, **ends}


def spread(what_: str, own: Tensor) -> Spread | None:
    """The distribution of (n,) numbers over `BINS` equal parts of their range; None where there is none."""
    there = own[own.isfinite()]
    if not len(there):
        return None
    edges = edges_of(there)
    return Spread(what_, edges.tolist(), torch.histogram(there, edges).hist.int().tolist(), len(own) - len(there))


def ordered(rows: Sequence[int], own: Tensor, largest: bool) -> list[int]:
    """The rows by their numbers, those without one last, ties in the order of the file."""
    keys = torch.where(own.isfinite(), -own if largest else own, torch.inf)
    return [rows[place] for place in keys.argsort(stable=True).tolist()]


def _of_step(data: Curated, place: str) -> Tensor:
    step = data.steps[int(place) - 1] if place.isdecimal() and 0 < int(place) <= len(data.steps) else None
    if step is None or step.numbers is None:
        raise WorkbenchError(f"Step {place} of this recipe goes by no number. Choose another one to sort by.")
    return step.numbers.double()
