"""A killed run goes on as if nothing had happened: the same losses and the same adapter, bit for bit, and no step on record twice.

The process dies by SIGKILL in the middle of something, and at moments that nobody chose.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from reliability.kills import KILLS, Record, Start
from reliability.victims import ANY, work

from workbench.core.events import Event, Finished, Made, Measured
from workbench.core.job import Job
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.steering import Wish, wish
from workbench.jobs.train import train
from workbench.runs.runner import Runner
from workbench.runs.store import Store

LAST = 16  # the latest step at which it is killed; more than fifty are left then
PLACES = [
    "in a checkpoint", ANY, "with half a step taken", "in an evaluation", ANY, "after a checkpoint is in its place",
    "before a checkpoint is in its place", "with its gradients complete", ANY, "in an answer",
]  # fmt: skip


def kills() -> list[Any]:
    chance, found = random.Random(0), []
    for number in range(max(3, KILLS // 10)):
        place, step, delay = PLACES[number % len(PLACES)], chance.randint(1, LAST), chance.uniform(0, 0.05)
        step = 0 if place == "in an answer" else step
        found.append(pytest.param(place, step, delay, id=f"{place} after step {step}"))
    return found


@pytest.fixture(scope="module")
def undisturbed(start: Start, spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The same run, never killed."""
    home = tmp_path_factory.mktemp("undisturbed")
    assert start(work, home, spec).end().process.exitcode == 0
    return Record.of(home)


@pytest.mark.parametrize("place, step, delay", kills())
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    start: Start, spec: dict[str, Any], undisturbed: Record, tmp_path: Path, place: str, step: int, delay: float
) -> None:
    victim = start(work, tmp_path, spec, place=place, step=step)
    if place == ANY:
        while victim.newest("reached") < step:
            assert victim.hear(), "it died by itself"
        time.sleep(delay)
        victim.process.kill()
    assert victim.end().killed

    with Store(Workspace(tmp_path).database) as store:
        found = store.run("0001")
        assert found.status == "interrupted" and found.ended is not None and store.warnings == []
    killed = Record.of(tmp_path)
    assert found.step == max(killed.steps, default=0) >= victim.newest("written")
    assert spec["steps"] - found.step >= 50

    assert start(work, tmp_path, found.id).end().newest("reached") == spec["steps"]
    with Store(Workspace(tmp_path).database) as store:
        assert store.run(found.id).status == "finished"
    resumed = Record.of(tmp_path)
    assert resumed.twice == []
    assert resumed.after(killed.kept) == undisturbed.after(killed.kept)
    for name, line in resumed.measured.items():
        assert line == {place: undisturbed.measured[name][place] for place in line}
    assert resumed.adapter.keys() == undisturbed.adapter.keys() != set()
    assert all(torch.equal(resumed.adapter[name], undisturbed.adapter[name]) for name in resumed.adapter)


def test_what_a_checkpoint_holds_is_on_record(start: Start, spec: dict[str, Any], tmp_path: Path) -> None:
    """The store is slow to write, the process dies just after a checkpoint: the record has no hole when the run has gone on."""
    short = {**spec, "steps": 8}
    assert start(work, tmp_path, short, place="after a checkpoint is in its place", every=30.0).end().killed
    assert Record.of(tmp_path).kept == 6
    start(work, tmp_path, "0001").end()
    assert Record.of(tmp_path).steps == list(range(1, 9))


def test_a_stopped_run_owes_no_evaluation(spec: dict[str, Any], workspace: Workspace) -> None:
    short, folder, seen = TrainSpec(**{**spec, "steps": 8}), workspace.run("0001"), set()
    for _ in range(2):
        job = train(short, folder, workspace)
        for event in job:
            if isinstance(event, Measured) and "validation_loss" in event.values:
                seen.add(event.step)
            if isinstance(event, Measured) and event.step == 5 and "loss" in event.values:
                job.close()
                break
    assert seen == {0, 5, 8}


def test_a_checkpoint_from_before_the_first_step_is_gone_on_from(spec: dict[str, Any], workspace: Workspace) -> None:
    """A person asks the run to save while it loads, and the process dies before the first step."""
    short, folder = TrainSpec(**{**spec, "steps": 2, "changes": []}), workspace.run("0001")
    (folder / "spec.yaml").write_text(short.to_yaml())
    wish(folder, Wish("save"))
    job = train(short, folder, workspace)
    while not isinstance(next(job), Made):
        pass
    job.close()
    assert list(train(short, folder, workspace))[-1] == Finished("finished", "2 steps.")


def test_what_a_stopped_run_keeps_is_announced_with_its_step(spec: dict[str, Any], workspace: Workspace) -> None:
    def counts(_: object, folder: Path, __: object) -> Iterator[Event]:
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "state.safetensors").write_bytes(b"of step 2")
        yield Made("checkpoint", str(folder / "checkpoint"), 2)
        while True:
            yield Measured(3, {"loss": 1.0})

    with Store(workspace.database) as store, Runner(store, workspace, {"train": Job(counts, "device")}) as runner:
        run = runner.submit(TrainSpec(**spec))
        watch = runner.watch(run)
        while not isinstance(next(watch), Measured):
            pass
        runner.stop(run)
        assert runner.wait(run).step == 3
        assert [made.step for made in store.made(run)] == [3]
