"""Many kills, one database: it opens each time, holds what was acknowledged, shows nobody at work, and gives no number twice.

The process that writes dies by SIGKILL at random moments: while it opens, writes, deletes, folds the log in, or makes an artifact.
"""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from reliability.kills import KILLS, Start, Victim
from reliability.victims import PIECES, value, write

from workbench.core.events import Measured, Said
from workbench.core.workspace import Workspace
from workbench.materials.models import available
from workbench.runs.records import LIVE
from workbench.runs.store import Store


@dataclass
class Ledger:
    """What the dead have told: everything here was acknowledged by the store before it was said."""

    created: list[str] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    checked: int = 0

    def note(self, words: list[tuple[str, Any]]) -> None:
        for topic, what in words:
            match topic:
                case "created":
                    assert not self.created or int(what) > int(self.created[-1]), "a number was given twice"
                    self.created.append(what)
                case "written":
                    run, step = what
                    self.written[run] = max(step, self.written.get(run, 0))
                case "finished" | "deleting" | "deleted":
                    vars(self)[topic].add(what)

    def check(self, store: Store, workspace: Workspace, everything: bool = False) -> None:
        """Hold the store to what was told, in full for the runs that are new since the last time."""
        runs = {run.id: run for run in store.runs()}
        assert store.warnings == []
        assert not [run for run in runs.values() if run.status in LIVE]
        assert not self.deleted & runs.keys()
        assert set(self.created) - self.deleting <= runs.keys()
        assert all(runs[run].status == "finished" for run in self.finished & runs.keys())
        new = [run for run in runs if everything or int(run) > self.checked]
        for run in new:
            check_lines(store, run, self.written.get(run, 0))
        self.checked = max([self.checked, *map(int, runs)])
        folders = {path.name for path in workspace.run_folders() if (path / "adapter").exists()}
        assert {choice.reference for choice in available(workspace)} == {"pocket", *(f"run:{name}" for name in folders)}
        assert all(is_whole(workspace.run(name) / "adapter") for name in folders)
        assert all(Path(made.path).name == "adapter" and Path(made.path).is_dir() for run in new for made in store.made(run))


def check_lines(store: Store, run: str, written: int) -> None:
    """Each line begins at the first step, has no hole, reaches what was acknowledged, and holds what was measured."""
    steps, values = store.series(run, "loss", points=10**6)
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= written
    assert values == [value(run, step) for step in steps]
    assert store.series(run, "twice", points=10**6)[1] == [2 * number for number in values]
    said = [said.step for said in store.said(run)]
    assert said in (steps, steps[:-1]), "each answer was said right after its step"
    assert store.run(run).step in (steps or [0]), "a later try may not have come as far as the one before"


def is_whole(folder: Path) -> bool:
    text = (folder / "adapter_model.safetensors").read_text()
    return (folder / "adapter_config.json").read_text() == "{}" and text == folder.parent.name * PIECES


def killed_sometime(victim: Victim, chance: random.Random) -> None:
    """After some words of it and some milliseconds; every third time while it makes an artifact."""
    words, making = chance.choice([0, 0, 1, 2, 5, 10, 20]), chance.random() < 0.33
    while len(victim.words) < words or (making and victim.words[-1:] != [("making", victim.newest("making"))]):
        assert victim.hear(), "it died by itself"
    time.sleep(chance.uniform(0, 0.04 if making else 0.1))
    victim.process.kill()
    assert victim.end().killed


def test_whenever_the_writer_is_killed_nothing_acknowledged_is_lost(start: Start, tmp_path: Path) -> None:
    chance, ledger, workspace = random.Random(0), Ledger(), Workspace(tmp_path)
    for number in range(KILLS):
        victim = start(write, tmp_path, number)
        while number == 0 and not victim.newest("deleted"):
            assert victim.hear(), "it died by itself"
        killed_sometime(victim, chance)
        ledger.note(victim.words)
        if chance.random() < 0.7:  # else the next one finds the database as the dead one left it
            with Store(workspace.database) as store:
                ledger.check(store, workspace)
    with Store(workspace.database) as store:
        ledger.check(store, workspace, everything=True)
        assert int(store.create("train", "", {})) > max(map(int, ledger.created))
    with duckdb.connect(workspace.database, read_only=True) as database:
        for table, key in (("metrics", "run, name, step"), ("said", "run, step"), ("runs", "number"), ("made", "run, path")):
            assert database.execute(f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1").fetchall() == []


def test_a_try_takes_the_place_of_one_that_was_not_yet_written(tmp_path: Path) -> None:
    with Store(tmp_path / "workbench.duckdb") as store:
        run = store.create("train", "", {})
        store.append(run, Measured(1, {"loss": 1.0}), Said(1, "m", "p", "old"))
        store.mark(run, "queued")
        store.append(run, Measured(1, {"loss": 2.0}), Said(1, "m", "p", "new"))
        store.flush()
        assert store.series(run, "loss") == ([1], [2.0])
        assert [said.answer for said in store.said(run)] == ["new"]
