"""What the tests of killed processes hold: a process and all it has told, what the database holds of a run, and how often to kill."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import duckdb
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from workbench.core.workspace import Workspace

KILLS = int(os.environ.get("WORKBENCH_KILLS", "8"))
"""Kills of the store's battery; the training's has a tenth of them, and at least three. WORKBENCH_KILLS=100 is the full count."""

SOON = 120.0  # seconds; a test that waits as long has failed
CLOCKS = ("tokens_per_s", "memory_gb", "probe_ms", "step_ms/", "ceiling_tflop_per_s")  # how numbers begin that are never the same twice

Start = Callable[..., "Victim"]


@dataclass
class Victim:
    """A process of its own, and what it has told so far: words of (topic, value)."""

    process: BaseProcess
    pipe: Connection
    words: list[tuple[str, Any]] = field(default_factory=list)

    def hear(self) -> bool:
        """One word more; False when it is dead and has no more to tell."""
        try:
            assert self.pipe.poll(SOON), "it says nothing more, and lives"
            self.words.append(self.pipe.recv())
        except (EOFError, ConnectionResetError):
            self.process.join(SOON)
            return False
        return True

    def end(self) -> "Victim":
        """Listen until it is dead."""
        while self.hear():
            pass
        return self

    def newest(self, topic: str) -> Any:
        """What was told last of a topic, 0 before."""
        return next((value for said, value in reversed(self.words) if said == topic), 0)

    @property
    def killed(self) -> bool:
        return self.process.exitcode == -9


@dataclass(frozen=True)
class Record:
    """What lies in a home of one run, read past the store: numbers by name, answers, the adapter, and the checkpoint's step."""

    measured: dict[str, dict[int, float]]
    twice: list[tuple[Any, ...]]
    said: list[tuple[int, str, str]]
    adapter: dict[str, Tensor]
    kept: int

    @classmethod
    def of(cls, home: Path, run: str = "0001") -> "Record":
        with duckdb.connect(Workspace(home).database, read_only=True) as database:
            rows = database.execute("SELECT name, step, value FROM metrics WHERE run = ? ORDER BY name, step", [int(run)]).fetchall()
            said = database.execute("SELECT step, prompt, answer FROM said WHERE run = ? ORDER BY step", [int(run)]).fetchall()
        places = [row[:2] for row in rows] + [row[:2] for row in said]
        measured: dict[str, dict[int, float]] = {"loss": {}}
        for name, step, value in rows:
            if not name.startswith(CLOCKS):
                measured.setdefault(name, {})[step] = value
        folder = Workspace(home).run(run)
        weights = folder / "adapter" / "adapter_model.safetensors"
        twice = sorted({place for place in places if places.count(place) > 1})
        return cls(measured, twice, said, load_file(weights) if weights.exists() else {}, checkpoint_step(folder))

    @property
    def steps(self) -> list[int]:
        return list(self.measured["loss"])

    def after(self, step: int) -> tuple[dict[str, dict[int, float]], list[tuple[int, str, str]]]:
        """What was measured and said in later steps."""
        numbers = {name: {place: value for place, value in line.items() if place > step} for name, line in self.measured.items()}
        return {name: line for name, line in numbers.items() if line}, [said for said in self.said if said[0] > step]


def checkpoint_step(folder: Path) -> int:
    """The step at which a run's checkpoint was taken, 0 where there is none."""
    file = folder / "checkpoint" / "state.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, framework="pt") as state:
        return int(state.metadata()["step"])
