"""Good settings of a merge, found by trying: a grid over its first two knobs, then a step this way and that along each.

Every try is a merge in memory and the loss on a few rows of each task (`jobs/tasting.py`); nothing is written. What is looked for is the
lowest mean loss over all tasks; what is kept is every try, because the best for what was learnt is seldom the best for what was known.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from workbench.core.errors import WorkbenchError
from workbench.core.method import Knob, knobs_of
from workbench.core.spec import MergeSpec
from workbench.jobs.tasted import BASE
from workbench.jobs.tasting import Tasting

GRID = 5  # values of each of the first two knobs
WALKS = 2  # times that each knob is moved by half of what it was before
BETTER = 0.9  # of the base's loss: a task that some tuned model does so well on was learnt, the others were known


@dataclass(frozen=True)
class Try:
    """Settings, and the mean loss of the tasks that were learnt, of those that were known, and of all, in nats a token."""

    knobs: dict[str, float]
    learnt: float
    known: float
    loss: float


@dataclass
class Search:
    """What was tried so far, in order, and how many tries there will be at the most."""

    most: int
    tries: list[Try] = field(default_factory=list)

    @property
    def best(self) -> Try:
        return min(self.tries, key=lambda one: one.loss)

    def front(self) -> list[Try]:
        """The tries that no other beats on both sides, from the best at what was learnt to the best at what was known."""
        found: list[Try] = []
        for one in sorted(self.tries, key=lambda one: (one.learnt, one.known)):
            if not found or one.known < found[-1].known:
                found.append(one)
        return found


def search(tasting: Tasting, spec: MergeSpec) -> Iterator[Search]:
    """Try settings of the spec's method, after each telling where the search stands; what varies from tensor to tensor stays as it is.

    Raises:
        WorkbenchError: the method has no number to search over.
    """
    knobs = searched(spec)
    if not tasting.tasks:
        raise WorkbenchError("There are no rows to search by: the models are no runs of this workspace. Choose a data set to score on.")
    if not knobs:
        raise WorkbenchError(f"{spec.merge.title()} has no number that could be searched over. Move the shares, or choose another method.")
    learnt = [_was_learnt(tasting, place) for place in range(len(tasting.tasks))]
    usual = spec.merge.model_dump()
    grids = [spread(knob) if place < 2 else [usual[knob.name]] for place, knob in enumerate(knobs)]
    found = Search(math.prod(map(len, grids)) + 2 * WALKS * len(knobs))
    for values in itertools.product(*grids):
        yield _tried(found, tasting, spec, dict(zip((knob.name for knob in knobs), values, strict=True)), learnt)
    for walk, knob, sign in itertools.product(range(1, WALKS + 1), knobs, (-1, 1)):
        value = moved(knob, found.best.knobs[knob.name], sign / 2**walk)
        near = {**found.best.knobs, knob.name: value}
        if knob.lo < value <= knob.hi and near not in [one.knobs for one in found.tries]:
            yield _tried(found, tasting, spec, near, learnt)


def searched(spec: MergeSpec) -> list[Knob]:
    """The numbers of the method that have a range and are not folded away."""
    numbers = [knob for knob in knobs_of(type(spec.merge)) if knob.kind == "float" and knob.lo is not None and knob.hi is not None]
    return [knob for knob in numbers if not knob.more and knob.name not in spec.vary]


def spread(knob: Knob) -> list[float]:
    """The grid's values: fifths of what is likely, which is 1 where the range goes further, or tenths of tenths on a logarithmic scale."""
    high = min(knob.hi or 1.0, 1.0)
    steps = range(GRID - 1, -1, -1)
    return [high * 10.0**-step if knob.log else round(high * (GRID - step) / GRID, 6) for step in steps]


def moved(knob: Knob, value: float, share: float) -> float:
    """The value a share of the grid's step away."""
    high = min(knob.hi or 1.0, 1.0)
    return value * 10.0**share if knob.log else round(value + share * high / GRID, 6)


def _tried(found: Search, tasting: Tasting, spec: MergeSpec, knobs: dict[str, float], learnt: Sequence[bool]) -> Search:
    merge = {**spec.merge.chosen(), **knobs}
    losses = tasting.losses(MergeSpec.parse({**spec.model_dump(mode="json"), "merge": merge}))
    sides = [[loss for loss, was in zip(losses, learnt, strict=True) if was == side] for side in (True, False)]
    new, known = (fmean(side) if side else 0.0 for side in sides)
    found.tries.append(Try(knobs, new, known, fmean(losses)))
    return found


def _was_learnt(tasting: Tasting, place: int) -> bool:
    """Whether a tuned model does much better on the task than the base."""
    best = min(tasting.scores[label][place].loss for label in tasting.labels)
    return best < BETTER * tasting.scores[BASE][place].loss
