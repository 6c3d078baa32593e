"""A run at work, as the runner holds it: its generator, where it stands, how fast it goes, and who listens.

Knows no thread and no database; every field is changed under the runner's lock or by the one thread of its lane.
"""

import queue
import time
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workbench.core.events import Event, Finished, Made, Measured, Progress, Status
from workbench.core.job import Job
from workbench.core.parts import Spec
from workbench.runs.records import Standing

RECENT = 30  # paces of which the speed is taken
BACKLOG = 256  # events kept for the first one who watches; beyond that a watcher hears what comes from then on


@dataclass(frozen=True)
class Live:
    """A run that is queued, running or paused, as a line of the page; `seconds_left` is None while nobody can tell."""

    id: str
    kind: str
    name: str
    status: Status
    step: int
    total: int
    seconds_left: float | None
    latest: dict[str, float]
    unit: str = "step"


class Watch(Iterator[Event]):
    """The events of one run as they come; ends after `Finished`. Whoever lets go of it stops listening."""

    def __init__(self, events: list[Event]):
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._over = False
        for event in events:
            self.tell(event)

    def tell(self, event: Event) -> None:
        self._events.put(event)

    def __next__(self) -> Event:
        if self._over:
            raise StopIteration
        event = self._events.get()
        self._over = isinstance(event, Finished)
        return event


@dataclass
class Entry:
    """`ending` is how the run will end, once that is known: its generator is then closed and nothing more is asked."""

    id: str
    spec: Spec
    job: Job
    kind: str
    name: str
    status: Status = "queued"
    work: Generator[Event, None, None] | None = None
    ending: Finished | None = None
    standing: Standing = field(default_factory=Standing)
    made: dict[Path, int] = field(default_factory=dict)  # path → the step it was announced for
    early: list[Event] | None = field(default_factory=list)  # what nobody has heard yet; None when it is not kept any more
    watches: "weakref.WeakSet[Watch]" = field(default_factory=weakref.WeakSet)
    paces: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def hear(self, event: Event) -> None:
        before = self.standing.step, self.standing.unit
        self.standing.hear(event)
        if isinstance(event, Made):
            self.made[Path(event.path).resolve()] = event.step
        if isinstance(event, Progress | Measured) and before != (self.standing.step, self.standing.unit):
            if before[1] != self.standing.unit or before[0] > self.standing.step:
                self.paces.clear()
            self.paces.append((time.monotonic(), self.standing.step))
        for watch in list(self.watches):
            watch.tell(event)
        if self.early is not None:
            self.early = [*self.early, event] if len(self.early) < BACKLOG else None

    def watch(self) -> Watch:
        watch = Watch(self.early or [])
        self.early = None
        self.watches.add(watch)
        return watch

    def set_status(self, status: Status) -> None:
        """A pause must not count as slowness."""
        self.status = status
        self.paces.clear()

    def line(self) -> Live:
        standing = self.standing
        return Live(
            self.id,
            self.kind,
            self.name,
            self.status,
            standing.step,
            standing.total,
            self._seconds_left(),
            dict(standing.latest),
            standing.unit,
        )

    def _seconds_left(self) -> float | None:
        if self.status != "running" or len(self.paces) < 2 or self.standing.total <= 0:
            return None
        (begun, first), (ended, last) = self.paces[0], self.paces[-1]
        if last <= first:
            return None
        return max(0.0, (self.standing.total - last) * (ended - begun) / (last - first))
