"""What the store gives back: a run, and what is new of its numbers. Plain values; knows no database and no thread."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Measured, Progress, Started, Status

LIVE: tuple[Status, ...] = ("queued", "running", "paused")
"""What a run is as long as somebody works on it or will."""

Line = tuple[list[int], list[float]]
"""Steps, rising, and the value at each; a value may be NaN or infinite."""


@dataclass(frozen=True)
class Run:
    """One run as it stands. Times are in UTC; `metrics` holds the first and the last value of each name."""

    id: str
    name: str
    kind: str
    status: Status
    step: int
    total: int
    spec: dict[str, Any]
    message: str
    traceback: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    metrics: dict[str, tuple[float, float]]
    unit: str = "step"


@dataclass(frozen=True)
class Delta:
    """What came after a cursor. With `reset` the points are a whole picture (decimated) and replace what was there."""

    cursor: int
    points: dict[str, Line]
    reset: bool


@dataclass
class Standing:
    """Where a run stands, kept up by listening to its events: `step` of `total` `unit`s, and the latest numbers."""

    step: int = 0
    total: int = 0
    unit: str = "step"
    latest: dict[str, float] = field(default_factory=dict)

    def hear(self, event: Event) -> None:
        match event:
            case Started():
                self.total = event.total
                if self.unit != "step":  # what came before the first step (choosing rows) was counted in another unit
                    self.step, self.unit = 0, "step"
            case Progress():
                self.step, self.total, self.unit = event.done, event.total, event.what
            case Measured():
                self.latest.update(event.values)
                if self.unit == "step":
                    self.step = event.step


def number_of(run: str) -> int:
    """`"0042"` → 42; what cannot be a run's number is no run."""
    if not (run.isascii() and run.isdigit() and len(run) <= 9):
        raise unknown(run)
    return int(run)


def unknown(run: str) -> WorkbenchError:
    return WorkbenchError(f"There is no run {run!r}. The list of runs shows which there are.")


def bin_width(points: int, count: int, first: int, last: int) -> int:
    """k such that bins of 2^k steps, anchored at step 0, leave at most `points` of `count` points between two steps.

    Two points stand for a bin (its lowest and its highest). k only grows as steps are added, so a bin that is complete
    keeps its points until k grows. Source: the workbench's own rule; trackio arrived at the same one.
    """
    if count <= points:
        return 0
    bins = max(1, points // 2)
    return max(0, math.ceil(math.log2((last - first + 1) / bins)))
