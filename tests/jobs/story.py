"""A run from its first event to its last, and what it measured."""

from pathlib import Path

from workbench.core.events import Event, Measured
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.train import train


def run(spec: TrainSpec, folder: Path, workspace: Workspace) -> list[Event]:
    return list(train(spec, folder, workspace))


def series(events: list[Event], name: str) -> dict[int, float]:
    return {event.step: event.values[name] for event in events if isinstance(event, Measured) and name in event.values}
