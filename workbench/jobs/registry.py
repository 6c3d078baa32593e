"""Which kinds of jobs there are and the lane each runs in.

A job is imported when it is wanted, because training needs much that merging does not.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.core.events import Event
from workbench.core.job import Job, Work
from workbench.core.workspace import Workspace


def _of(module: str) -> Work:
    """The job of a module of this folder, a function of the same name."""

    def work(spec: Any, folder: Path, workspace: Workspace) -> Iterator[Event]:
        yield from importlib.import_module(f"workbench.jobs.{module}").__dict__[module](spec, folder, workspace)

    return work


JOBS: dict[str, Job] = {
    "train": Job(_of("train"), "device"),
    "merge": Job(_of("merge"), "host"),
    "compare": Job(_of("compare"), "device"),
    "inspect": Job(_of("inspect"), "device"),
    "evaluate": Job(_of("evaluate"), "device"),
    "report": Job(_of("report"), "device"),
    "claim": Job(_of("claim"), "device"),
}
