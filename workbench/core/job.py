"""What a job is: long work as a generator of events, and the lane it runs in. Knows no job by name."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.core.events import Event
from workbench.core.workspace import Workspace

Work = Callable[[Any, Path, Workspace], Iterator[Event]]
"""`work(spec, folder, workspace)` yields events; `folder` is the run's own, and holds what an earlier, stopped try left."""


@dataclass(frozen=True)
class Job:
    """`device` jobs share the one GPU thread and take turns; `host` jobs (ingest, merging on the CPU) have a thread of their own."""

    work: Work
    lane: Literal["device", "host"]


def drain(work: Generator[Any, None, Any]) -> Any:
    """Run a generator to its end and return its result; for callers who do not show progress."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
