"""Several processes on one run: they learn what one learns, go on to the bit where they were stopped, and none outlives the run.

Real processes with gloo between them. What needs none is asked of the arithmetic alone: the parts of a window add up to the window.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import psutil
import pytest
import torch
from torch import Tensor

from tests.jobs.story import run, same, series
from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Event, Measured
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint, together
from workbench.jobs.leading import Other, possible
from workbench.jobs.steering import Wish, wish
from workbench.jobs.together import Batch, Group, Together, buckets, shares
from workbench.jobs.train import begin, train
from workbench.materials.world.skills import World

SOON = 240  # seconds; a test that takes as long hangs


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A test that hangs has failed, and leaves nobody behind."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SOON)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    left = others()
    for process in left:
        process.kill()
    assert not left, "a process outlived its run"


def others(of: int | None = None) -> list[psutil.Process]:
    """The processes that take part in a run of process `of`, this one if none is named."""
    return [child for child in psutil.Process(of).children() if any("workbench.jobs.following" in word for word in child.cmdline())]


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows of very different lengths, each with a task."""
    path, world = tmp_path / "rows.jsonl", World()
    found = [(task, row) for task in ("tale", "facts") for row in world.rows(task, 20, seed=0, held_out=False)]
    path.write_text("".join(json.dumps({"messages": row.messages(), "task": task}) + "\n" for task, row in found))
    return path


@pytest.fixture
def shared(spec: TrainSpec) -> TrainSpec:
    """Three forward passes a step for two processes, without dropout."""
    changed = {
        "processes": 2, "accumulate": 3, "batch_size": 2, "steps": 10, "evaluate_every": 5, "sample_every": 10, "checkpoint_every": 5,
        "adapter": {"method": "lora", "rank": 4, "dropout": 0.0}, "data": {**spec.data.model_dump(), "task": "task"},
    }  # fmt: skip
    return TrainSpec(**{**spec.model_dump(), **changed})


def altered(spec: TrainSpec, **changes: object) -> TrainSpec:
    return TrainSpec.parse({**spec.model_dump(mode="json"), **changes})


# The arithmetic.


class Part(Group):
    """A process that reads its share and keeps the sum to itself."""

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size

    def mine(self, window: Sequence[Batch]) -> Sequence[int]:
        return shares([batch["input_ids"].numel() for batch in window], self.size)[self.rank]


LOSSES = [
    "cross_entropy", {"method": "cross_entropy", "anchor": 0.5}, "infosft", "dft", "perplexity_weighted", "srft",
    {"method": "dco", "tries": 2}, {"method": "mftcoder", "balance": "rows of tasks"},
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_the_parts_of_a_window_add_up_to_it(shared: TrainSpec, workspace: Workspace, loss: object) -> None:
    """Values and gradients of the parts that three processes read, each normalised by the whole window, summed by hand."""
    plain = altered(shared, loss=loss, processes=1, accumulate=4)
    job = drain(begin(plain, workspace.run("0001"), workspace))
    with torch.no_grad():  # LoRA's B is 0 at the start, and with it most gradients
        for _, parameter in job.attachment.trained():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 30)
    window = job.batches.window(1)

    def read(group: Group) -> tuple[dict[str, float], dict[str, Tensor]]:
        job.objective.let_go()
        job.objective.group = group
        values = job.objective.gradients(window, 1, 0.1)
        return values, {name: own.grad.clone() for name, own in job.attachment.trained() if own.grad is not None}

    values, gradients = read(Group())
    parts = [read(Part(rank, 3)) for rank in range(3)]
    for name, value in values.items():
        assert sum(own[name] for own, _ in parts) == pytest.approx(value, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(sum(own[name] for _, own in parts), gradient, rtol=1e-4, atol=1e-7)
    assert any(bool(gradient.any()) for gradient in gradients.values())


def test_everybody_reads_and_nobody_twice() -> None:
    for sizes, processes in (([5, 5, 5], 2), ([900, 10, 10, 10], 2), ([1] * 7, 3), ([4], 3)):
        found = shares(sizes, processes)
        assert sorted(place for own in found for place in own) == [*range(len(sizes))] and len(found) == processes
    assert shares([10, 10, 10, 900], 2) == [[3], [0, 1, 2]], "the longest goes to one, the rest to the other"


def test_buckets_hold_every_parameter_once_and_no_more_than_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "BUCKET", 10)
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (4, 4, 4, 25, 1)]
    found = list(buckets(parameters))
    assert [id(own) for bucket in found for own in bucket] == [*map(id, parameters)]
    assert [sum(own.numel() for own in bucket) for bucket in found] == [8, 4, 25, 1]


def test_dropout_differs_between_processes_and_leaves_the_same_random_state(tmp_path: Path) -> None:
    drawn, left = [], []
    for rank in range(2):
        torch.manual_seed(3)
        with Together(rank, 2, torch.device("cpu"), tmp_path / "meeting").chance():
            drawn.append(torch.rand(4))
        left.append(torch.get_rng_state())
    assert not torch.equal(*drawn) and torch.equal(*left)


# The processes.


def test_two_learn_what_one_learns_and_a_run_says_who_of_it_died(shared: TrainSpec, workspace: Workspace) -> None:
    """With weights by task, a capped step, a slow average, and a person who changes the rate on the way; after 11 steps one is killed."""
    spec = altered(
        shared, loss={"method": "mftcoder", "balance": "rows of tasks"}, steps=12,
        update={"method": "adamw", "lr": 1e-2, "guard": "cap", "average": 0.9},
    )  # fmt: skip
    one, two = list[Event](), list[Event]()
    turned = altered(spec, processes=1, changes=[{"at": 4, "set": {"update.lr": 3e-3}}])
    for _ in follow(train(turned, workspace.run("0001"), workspace), one, to=10):
        pass
    folder = workspace.run("0002")
    (folder / "spec.yaml").write_text(spec.to_yaml())
    with pytest.raises(WorkbenchError, match=r"Process 2 of the run's 2 was killed.*Resume"):
        for step in follow(train(spec, folder, workspace), two, to=12):
            if step == 3:
                wish(folder, Wish(set={"update.lr": 3e-3}))
            if step == 10:
                os.kill(others()[0].pid, signal.SIGKILL)
    assert others() == []
    for name in ("loss", "objective", "validation_loss", "lr", "step_scale", "grad_norm"):
        here, there = series(one, name), series(two, name)
        assert here and {step: there[step] for step in here} == pytest.approx(here, rel=1e-4 if name == "grad_norm" else 1e-5), name
    (here, mine), (there, theirs) = (checkpoint.load(workspace.run(number)) for number in ("0001", "0002"))
    assert here == there == 10
    for part in ("adapter", "average"):
        assert all(torch.allclose(mine[part][name], theirs[part][name], rtol=1e-4, atol=1e-5) for name in mine[part])
    assert "step_ms/exchange" in {name for event in two if isinstance(event, Measured) for name in event.values}


ALIKE = {
    "what each expert is given is counted over the tokens of all": (
        {"adapter": {"method": "mixlora", "rank": 2, "balance": 1.0}},
        ("loss", "expert_load/0", "expert_load/7"),
    ),
    "classes come equally often and weigh by losses that one of them reads": (
        {"loss": {"method": "coba", "window": 4, "warm_up": 2}, "data": {"balance": "task"}},
        ("loss", "objective", "validation_loss/tale", "validation_loss/facts"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_two_learn_what_one_learns_where(name: str, shared: TrainSpec, workspace: Workspace) -> None:
    """That the two hold the same numbers is checked by the run itself, where its checkpoints are due."""
    changes, curves = ALIKE[name]
    data = {**shared.data.model_dump(mode="json"), **changes.get("data", {})}
    spec = altered(shared, **{**changes, "data": data, "steps": 8, "evaluate_every": 4, "checkpoint_every": 4})
    two, one = (run(altered(spec, processes=number), workspace.run(f"000{number}"), workspace) for number in (2, 1))
    for curve in curves:
        assert series(one, curve) and series(two, curve) == pytest.approx(series(one, curve), rel=1e-4), curve
    assert len(set(series(one, curves[1]).values())) > 1, "it does nothing"


def follow(job: Iterator[Event], told: list[Event], to: int) -> Iterator[int]:
    """Each step that is over; after the last one the run is stopped."""
    for event in job:
        told.append(event)
        if isinstance(event, Measured) and "loss" in event.values:
            yield event.step
            if event.step == to:
                job.close()  # type: ignore[attr-defined]
                return


def test_a_stopped_run_of_two_goes_on_to_the_bit(shared: TrainSpec, workspace: Workspace) -> None:
    """With dropout and noise, which each process draws for itself."""
    spec = altered(shared, adapter={"method": "lora", "rank": 4, "dropout": 0.2}, noises=["neftune"], evaluate_every=3, steps=6)
    whole = run(spec, workspace.run("0001"), workspace)
    folder, first = workspace.run("0002"), list[Event]()
    for step in follow(train(spec, folder, workspace), first, to=3):
        (other,) = others()
        assert not gone(other) and step <= 3
    assert gone(other) and checkpoint.load(folder)[0] == 3
    second = run(spec, folder, workspace)
    assert {**series(first, "loss"), **series(second, "loss")} == series(whole, "loss")
    assert series(second, "validation_loss")[6] == series(whole, "validation_loss")[6]
    assert same(workspace.run("0001") / "adapter", folder / "adapter")


LEADER = """
import sys
from pathlib import Path
from workbench.core.method import discover
from workbench.core.spec import read_spec
from workbench.core.workspace import Workspace
from workbench.jobs.train import train
discover()
home = Workspace(Path(sys.argv[2]))
for event in train(read_spec(Path(sys.argv[1])), home.run("0001"), home):
    print(type(event).__name__, flush=True)
"""


def test_nobody_outlives_a_run_that_is_killed(shared: TrainSpec, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(altered(shared, steps=1_000_000).to_yaml())
    command = [sys.executable, "-c", LEADER, str(tmp_path / "spec.yaml"), str(workspace.home)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as leader:
        assert leader.stdout
        assert "Measured\n" in leader.stdout
        (other,) = others(leader.pid)
        leader.kill()
    tired = time.monotonic() + 20
    while not gone(other) and time.monotonic() < tired:
        time.sleep(0.05)
    assert gone(other)


# What is refused.


def test_more_processes_than_forward_passes_are_refused(shared: TrainSpec) -> None:
    with pytest.raises(SpecError, match="set accumulate to 4 or more"):
        altered(shared, processes=4)


def test_more_processes_than_gpus_are_refused(shared: TrainSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    possible(altered(shared, processes=3))  # without any, they are processes of the CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    possible(shared)
    with pytest.raises(WorkbenchError, match=r"this machine has 2 GPUs\. Set processes to 2 or less"):
        possible(altered(shared, processes=3))


def test_a_process_that_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    with (tmp_path / "words").open("w+") as words:
        process = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit('It was\\nthe disk.')"], stderr=words, text=True)
        other = Other(1, process, words)
        process.wait()
        said = str(other.ended(2))
    assert "Process 2 of the run's 2 ended before its time: the disk. " in said and "Resume" in said
