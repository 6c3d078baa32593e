"""What a kill, a full disk or a bad copy leaves half: it is never taken for whole, and what is wrong with it is said in a sentence."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from reliability.kills import Record, Start, checkpoint_step
from reliability.victims import work
from safetensors.torch import load_file, save_file

from workbench.core.asking import CompareSpec
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Progress
from workbench.core.job import Job
from workbench.core.spec import TrainSpec, parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.registry import JOBS
from workbench.jobs.train import train
from workbench.materials.models import available, resolve
from workbench.runs.records import Run
from workbench.runs.runner import Runner
from workbench.runs.store import Store

PLAIN = "The run broke off through a mistake in the program"  # how a failure begins for which nobody found a sentence


def carry_out(home: Path, wanted: dict[str, Any] | str) -> Run:
    """Run a spec, or go on with a run, to its end."""
    workspace = Workspace(home)
    with Store(workspace.database) as store, Runner(store, workspace, JOBS) as runner:
        return runner.wait(runner.submit(parse_spec(wanted)) if isinstance(wanted, dict) else runner.resume(wanted))


def offered(home: Path) -> list[str]:
    """The models that a person can choose, without the demo model."""
    return [choice.reference for choice in available(Workspace(home)) if choice.reference != "pocket"]


def copied(home: Path, to: Path) -> Path:
    return Path(shutil.copytree(home, to / "home"))


@pytest.fixture(scope="module")
def short(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "steps": 8, "changes": [], "checkpoint_every": 3, "evaluate_every": 8, "sample_every": 8}


@pytest.fixture(scope="module")
def finished(short: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("finished")
    assert carry_out(home, short).status == "finished"
    return home


@pytest.fixture(scope="module")
def interrupted(start: Start, short: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its fifth step, with a checkpoint of the third."""
    home = tmp_path_factory.mktemp("interrupted")
    assert start(work, home, short, place="with half a step taken", step=4, every=0.01).end().killed
    assert checkpoint_step(Workspace(home).run("0001")) == 3
    return home


# Checkpoints.


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "it ends in its middle": cut,
    "it is empty": lambda file: file.write_bytes(b""),
    "it holds something else": lambda file: file.write_bytes(b"hello " * 100),
    "it names no step": lambda file: save_file(load_file(file), file),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_checkpoint_is_a_sentence(interrupted: Path, tmp_path: Path, damage: str) -> None:
    home = copied(interrupted, tmp_path)
    DAMAGES[damage](Workspace(home).run("0001") / "checkpoint" / "state.safetensors")
    found = carry_out(home, "0001")
    assert found.status == "failed"
    assert not found.message.startswith(PLAIN) and "checkpoint" in found.message


@pytest.mark.parametrize("part", ["adapter", "optimizer"])
def test_a_checkpoint_that_lacks_something_is_not_taken_for_whole(interrupted: Path, tmp_path: Path, part: str) -> None:
    home = copied(interrupted, tmp_path)
    file = Workspace(home).run("0001") / "checkpoint" / "state.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.startswith(f"{part}/")}
    save_file(kept, file, {"step": "3"})
    found = carry_out(home, "0001")
    assert found.status == "failed" and "checkpoint" in found.message


def test_what_is_left_of_a_half_written_checkpoint_is_nothing_to_the_whole_one(interrupted: Path, finished: Path, tmp_path: Path) -> None:
    home = copied(interrupted, tmp_path)
    file = Workspace(home).run("0001") / "checkpoint" / "state.safetensors"
    file.with_suffix(".partial").write_bytes(file.read_bytes()[:100])
    assert carry_out(home, "0001").status == "finished"
    assert Record.of(home).after(3) == Record.of(finished).after(3)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_half_a_first_checkpoint_is_none(start: Start, short: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    assert start(work, tmp_path, short, place="in a checkpoint").end().killed
    assert carry_out(tmp_path, "0001").status == "finished"
    assert Record.of(tmp_path).measured == Record.of(finished).measured


def test_half_a_checkpoint_is_never_announced(workspace: Workspace, short: dict[str, Any]) -> None:
    """A run that was killed in its first checkpoint is resumed, and stopped before its first step."""

    def loads(*_: object) -> Iterator[Event]:
        (workspace.run("0001") / "checkpoint").mkdir()
        (workspace.run("0001") / "checkpoint" / "state.partial").write_bytes(b"half")
        while True:
            yield Progress(0, 1, "loading the model and the rows")

    with Store(workspace.database) as store, Runner(store, workspace, {"train": Job(loads, "device")}) as runner:
        run = runner.submit(parse_spec(short))
        next(runner.watch(run))
        runner.stop(run)
        assert runner.wait(run).status == "stopped"
        assert store.made(run) == []


# Adapters and models.


@pytest.mark.parametrize("place", ["in an adapter", "before a folder is in its place"])
def test_half_an_adapter_is_none_and_is_made_whole_by_going_on(
    start: Start, short: dict[str, Any], finished: Path, tmp_path: Path, place: str
) -> None:
    assert start(work, tmp_path, short, place=place).end().killed
    folder = Workspace(tmp_path).run("0001")
    assert (folder / "adapter.partial").is_dir() and offered(tmp_path) == []
    with pytest.raises(WorkbenchError, match="has made no adapter or model yet"):
        resolve("run:0001", Workspace(tmp_path))
    assert carry_out(tmp_path, "0001").status == "finished"
    assert offered(tmp_path) == ["run:0001"] and not list(folder.glob("*.partial"))
    whole, again = Record.of(finished).adapter, Record.of(tmp_path).adapter
    assert {name: tensor.tolist() for name, tensor in again.items()} == {name: tensor.tolist() for name, tensor in whole.items()}


def test_what_was_announced_stays_while_its_successor_is_written(start: Start, short: dict[str, Any], tmp_path: Path) -> None:
    """A stopped run has kept an adapter; the resumed one is killed just before a newer one is in its place."""
    workspace = Workspace(tmp_path)
    with Store(workspace.database) as store:
        run = store.create("train", "", short)
        store.append(run, Finished("stopped"))
    job = train(TrainSpec(**short), workspace.run(run), workspace)
    while not isinstance(next(job), Made):
        pass
    job.close()
    assert offered(tmp_path) == ["run:0001"]
    assert start(work, tmp_path, run, place="before a folder is in its place").end().killed
    assert offered(tmp_path) == ["run:0001"]


def test_an_adapter_without_weights_is_not_offered(finished: Path, tmp_path: Path) -> None:
    home = copied(finished, tmp_path)
    (Workspace(home).run("0001") / "adapter" / "adapter_model.safetensors").unlink()
    assert offered(home) == []


@pytest.mark.parametrize("damage", ["it ends in its middle", "it is empty", "it is not there"])
def test_who_asks_a_torn_adapter_is_told_in_a_sentence(finished: Path, short: dict[str, Any], tmp_path: Path, damage: str) -> None:
    home = copied(finished, tmp_path)
    {**DAMAGES, "it is not there": Path.unlink}[damage](Workspace(home).run("0001") / "adapter" / "adapter_model.safetensors")
    found = carry_out(home, CompareSpec(models=[short["model"], "run:0001"], prompt="Where?", max_tokens=2).model_dump(mode="json"))
    assert found.status == "failed" and not found.message.startswith(PLAIN)


def test_half_a_merged_model_is_not_offered(start: Start, finished: Path, short: dict[str, Any], tmp_path: Path) -> None:
    home = copied(finished, tmp_path)
    recipe = {"kind": "merge", "name": "both", "base": short["model"], "models": [{"model": "run:0001"}]}
    assert start(work, home, recipe, place="before a folder is in its place").end().killed
    assert offered(home) == ["run:0001"]


@pytest.mark.parametrize("text", ["", "kind: [train"], ids=["empty", "half"])
def test_a_torn_spec_file_takes_no_list_with_it(finished: Path, tmp_path: Path, text: str) -> None:
    home = copied(finished, tmp_path)
    (Workspace(home).run("0001") / "spec.yaml").write_text(text)
    assert offered(home) in ([], ["run:0001"])
