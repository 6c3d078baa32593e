"""A run from its first event to its last, and what it measured."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from workbench.core.events import Event, Measured, Noted
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.train import train


def run(spec: TrainSpec, folder: Path, workspace: Workspace) -> list[Event]:
    return list(train(spec, folder, workspace))


def series(events: list[Event], name: str) -> dict[int, float]:
    return {event.step: event.values[name] for event in events if isinstance(event, Measured) and name in event.values}


def same(one: Path, other: Path) -> bool:
    mine, theirs = (load_file(next(folder.glob("*.safetensors"))) for folder in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def stopped(spec: TrainSpec, folder: Path, workspace: Workspace, step: int, at: type) -> list[Event]:
    """A run that is stopped at its first event of that kind after `step` steps, and what it said until then."""
    events: list[Event] = []
    job = train(spec, folder, workspace)
    for event in job:
        events.append(event)
        if isinstance(event, at) and event.step == step + (at is Noted) and (at is Noted or "loss" in event.values):
            job.close()
            return events
    raise AssertionError("it was over before")
