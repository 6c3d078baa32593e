"""The runner's promises: jobs take turns, a pause asks nothing, a stop lets them save, a failure is a sentence and stays alone."""

import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Measured, Noted, Progress, Started
from workbench.core.job import Job
from workbench.core.parts import Spec
from workbench.core.spec import SPECS
from workbench.core.workspace import Workspace
from workbench.runs.failures import sentence
from workbench.runs.live import Entry
from workbench.runs.runner import Runner
from workbench.runs.store import Store

SOON = 30.0  # seconds; a test that waits as long has failed


class Toy(Spec):
    """A job that counts to `steps`; `does` names what it does on the way."""

    kind: Literal["toy", "talk", "ingest"] = "toy"
    name: str = ""
    steps: int = 5
    does: str = "count"


class Stage:
    """Toy jobs under the test's hand: every step needs a permit, and what happened is written down in order."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.told: list[str] = []
        self.asked = threading.Condition()

    def count(self, spec: Toy, folder: Path, workspace: Workspace) -> Iterator[Event]:
        yield Started(spec.steps)
        try:
            for step in range(1, spec.steps + 1):
                self.permits.acquire()
                with self.asked:
                    self.told.append(f"{spec.name}{step}")
                    self.asked.notify_all()
                if spec.does == "raise" and step == 2:
                    raise WorkbenchError("The loss is not a number. Lower the learning rate.")
                yield Measured(step, {"loss": 1.0 / step})
                yield Progress(step, spec.steps)
        finally:
            self.told.append(f"{spec.name} saves")
            if spec.does == "raise in finally":
                raise OSError(errno.ENOSPC, "No space left on device")
            (folder / "checkpoint").mkdir(exist_ok=True)
            (folder / "checkpoint" / "state").write_text("x")
        yield Finished("finished", "All counted.")

    def allow(self, steps: int) -> None:
        for _ in range(steps):
            self.permits.release()

    def until(self, count: int) -> None:
        with self.asked:
            assert self.asked.wait_for(lambda: len(self.told) >= count, SOON)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage


@pytest.fixture
def store(workspace: Workspace) -> Iterator[Store]:
    with Store(workspace.database) as opened:
        yield opened


@pytest.fixture
def runner(store: Store, workspace: Workspace, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    for kind in ("toy", "talk", "ingest"):
        monkeypatch.setitem(SPECS, kind, Toy)
    jobs = {"toy": Job(stage.count, "device"), "talk": Job(stage.count, "device"), "ingest": Job(stage.count, "host")}
    with Runner(store, workspace, jobs) as running:
        yield running
        stage.allow(10_000)


def statuses(runner: Runner) -> dict[str, str]:
    return {line.name: line.status for line in runner.live()}


def test_a_run_from_submit_to_finished(runner: Runner, store: Store, stage: Stage, workspace: Workspace) -> None:
    run = runner.submit(Toy(name="a", steps=3))
    watch = runner.watch(run)
    stage.allow(3)
    events = list(watch)
    assert events[0] == Started(3) and events[-1] == Finished("finished", "All counted.")
    assert [event.step for event in events if isinstance(event, Measured)] == [1, 2, 3]
    found = runner.wait(run, SOON)
    assert (found.status, found.step, found.total, found.message) == ("finished", 3, 3, "All counted.")
    assert found.started is not None and found.metrics == {"loss": (1.0, 1 / 3)}
    assert "steps: 3" in (workspace.run(run) / "spec.yaml").read_text()
    assert runner.live() == []
    assert store.made(run) == []  # what a job that ends by itself leaves behind, it announces itself


def test_watching_from_two_places_and_after_the_end(runner: Runner, stage: Stage) -> None:
    run = runner.submit(Toy(name="a", steps=4))
    first = runner.watch(run)
    stage.allow(2)
    stage.until(2)
    second = runner.watch(run)
    stage.allow(2)
    heard, late = list(first), list(second)
    assert [event.step for event in heard if isinstance(event, Measured)] == [1, 2, 3, 4]
    assert late == heard[-len(late) :] and Measured(4, {"loss": 0.25}) in late
    assert list(runner.watch(run)) == [Finished("finished", "All counted.")]


def test_who_lets_go_of_a_watch_is_forgotten(store: Store) -> None:
    entry = Entry("0001", Toy(), Job(Stage().count, "device"), "toy", "a")
    entry.watch()
    entry.hear(Noted("nobody listens"))
    assert len(entry.watches) == 0


def test_the_second_of_a_kind_waits_while_another_kind_takes_turns(runner: Runner, stage: Stage) -> None:
    first = runner.submit(Toy(name="a", steps=50))
    second = runner.submit(Toy(name="b", steps=2))
    talk = runner.submit(Toy(kind="talk", name="t", steps=3))
    stage.allow(12)
    stage.until(6)
    assert statuses(runner)["b"] == "queued"
    stage.allow(60)
    runner.wait(talk, SOON), runner.wait(first, SOON), runner.wait(second, SOON)
    order = [word for word in stage.told if "saves" not in word]
    assert order.index("t3") < order.index("a10")  # the talk did not wait for the training
    assert order.index("b1") > order.index("a50")
    turns = [word[0] for word in order[: order.index("t3") + 1]]
    assert "aaa" not in "".join(turns[turns.index("t") :])


def test_a_queued_run_can_be_taken_sooner(runner: Runner, stage: Stage) -> None:
    first = runner.submit(Toy(name="a"))
    stage.allow(1)
    stage.until(1)
    second, third = runner.submit(Toy(name="b")), runner.submit(Toy(name="c"))
    runner.sooner(third)
    assert [line.name for line in runner.live()] == ["a", "c", "b"]
    with pytest.raises(WorkbenchError, match="the next already"):
        runner.sooner(third)
    with pytest.raises(WorkbenchError, match="only a queued run"):
        runner.sooner(first)
    stage.allow(20)
    runner.wait(second, SOON)
    assert [step for step in stage.told if step.endswith("1")] == ["a1", "c1", "b1"]


def test_lanes_do_not_wait_for_each_other(runner: Runner, stage: Stage) -> None:
    busy = runner.submit(Toy(name="a", steps=2))  # without a permit: its lane stands still inside a step
    ingest = runner.submit(Toy(kind="ingest", name="i", steps=0))
    assert runner.wait(ingest, SOON).status == "finished"
    assert statuses(runner) == {"a": "running"}
    stage.allow(2)
    assert runner.wait(busy, SOON).status == "finished"


def test_pause_asks_nothing_more_until_play(runner: Runner, store: Store, stage: Stage) -> None:
    run = runner.submit(Toy(name="a", steps=6))
    other = runner.submit(Toy(kind="talk", name="t", steps=8))
    stage.allow(4)
    stage.until(4)
    runner.pause(run)
    assert store.run(run).status == "paused"
    stage.allow(4 + 8)  # what was asked for before the pause may still come; then only the other one counts
    runner.wait(other, SOON)
    counted = [word for word in stage.told if word.startswith("a")]
    assert len(counted) < 6 and statuses(runner) == {"a": "paused"}
    third = runner.submit(Toy(kind="talk", name="u", steps=1))
    runner.wait(third, SOON)
    assert [word for word in stage.told if word.startswith("a")] == counted
    with pytest.raises(WorkbenchError, match="is paused; only a running run can be paused"):
        runner.pause(run)
    runner.play(run)
    stage.allow(6)
    assert runner.wait(run, SOON).status == "finished"


def test_stop_lets_the_job_save_and_announces_what_it_saved(runner: Runner, store: Store, stage: Stage) -> None:
    run = runner.submit(Toy(name="a", steps=100))
    stage.allow(3)
    stage.until(3)
    runner.stop(run)
    stage.allow(1)  # it may be inside its next step, which it ends first
    found = runner.wait(run, SOON)
    assert found.status == "stopped" and found.step in (2, 3, 4)
    assert stage.told[-1] == "a saves"
    assert [(made.what, Path(made.path).name, made.step) for made in store.made(run)] == [("checkpoint", "checkpoint", found.step)]


@pytest.mark.parametrize("how", ["queued", "paused"])
def test_stop_of_a_run_that_is_not_at_work(runner: Runner, stage: Stage, how: str) -> None:
    first = runner.submit(Toy(name="a", steps=3))
    waiting = runner.submit(Toy(name="b", steps=3))
    stage.allow(1)
    stage.until(1)
    if how == "queued":
        runner.stop(waiting)
        stage.allow(1)
        assert runner.wait(waiting, SOON).status == "stopped"
        assert not [word for word in stage.told if word.startswith("b")]
    else:
        runner.pause(first)
        runner.stop(first)
        stage.allow(1)
        assert runner.wait(first, SOON).status == "stopped"


def test_a_stopped_run_is_resumed_as_the_same_run(runner: Runner, store: Store, stage: Stage) -> None:
    run = runner.submit(Toy(name="a", steps=4))
    stage.allow(2)
    stage.until(2)
    runner.stop(run)
    stage.allow(1)
    stopped = runner.wait(run, SOON)
    assert runner.resume(run) == run
    with pytest.raises(WorkbenchError, match="already at work"):
        runner.resume(run)
    stage.allow(4)
    found = runner.wait(run, SOON)
    assert found.status == "finished" and found.started > stopped.started
    assert store.series(run, "loss")[0] == [1, 2, 3, 4]  # the steps counted twice stand once
    with pytest.raises(WorkbenchError, match="is finished, so there is nothing to resume"):
        runner.resume(run)


def test_a_job_that_raises_is_a_sentence_and_the_next_one_goes_on(runner: Runner, stage: Stage) -> None:
    bad = runner.submit(Toy(name="a", does="raise"))
    good = runner.submit(Toy(name="b", steps=1))
    stage.allow(3)
    found = runner.wait(bad, SOON)
    assert (found.status, found.message) == ("failed", "The loss is not a number. Lower the learning rate.")
    assert "Traceback" in found.traceback and "in count" in found.traceback
    assert runner.wait(good, SOON).status == "finished"


def test_a_job_that_raises_while_it_saves_is_a_failure(runner: Runner, store: Store, stage: Stage) -> None:
    run = runner.submit(Toy(name="a", does="raise in finally"))
    stage.allow(1)
    stage.until(1)
    runner.stop(run)
    stage.allow(1)
    found = runner.wait(run, SOON)
    assert found.status == "failed" and found.message.startswith("The disk is full")
    assert "ENOSPC" not in found.message and store.made(run) == []
    assert list(runner.watch(run)) == [Finished("failed", found.message, found.traceback)]


def job_of(work) -> dict[str, Job]:
    return {"toy": Job(work, "device")}


def words_without_number(spec, folder, workspace):
    yield Measured(1, {"loss": "high"})


def leaves_the_program(spec, folder, workspace):
    yield Started(1)
    raise SystemExit(3)


def no_generator_yet(spec, folder, workspace):
    raise KeyError("adapter")


def will_not_close(spec, folder, workspace):
    while True:
        try:
            yield Noted("still here")
        except GeneratorExit:
            yield Noted("and here")


@pytest.mark.parametrize(
    "work, message",
    [
        (words_without_number, "not a number"),
        (leaves_the_program, "SystemExit"),
        (no_generator_yet, "KeyError"),
        (will_not_close, "RuntimeError"),
    ],
)
def test_whatever_a_job_does_its_lane_lives(store: Store, workspace: Workspace, work, message: str) -> None:
    with Runner(store, workspace, job_of(work)) as runner:
        for _ in range(2):
            run = runner.submit(Toy())
            if work is will_not_close:
                next(runner.watch(run))
                runner.stop(run)
            found = runner.wait(run, SOON)
            assert found.status == "failed" and message in found.message and "Traceback" in found.traceback


def test_closing_stops_every_run_so_that_it_saves(runner: Runner, store: Store, stage: Stage) -> None:
    runs = [runner.submit(Toy(kind=kind, name=name, steps=10_000)) for kind, name in (("toy", "a"), ("toy", "b"), ("ingest", "i"))]
    while not {"a1", "i1"} <= set(stage.told):
        stage.allow(1)
    stage.allow(2)  # for those that are inside a step
    runner.close()
    runner.close()
    assert [runner.wait(run, SOON).status for run in runs] == ["stopped"] * 3
    assert {"a saves", "i saves"} <= set(stage.told) and "b saves" not in stage.told
    with pytest.raises(WorkbenchError, match="shutting down"):
        runner.submit(Toy())


def test_steering_a_run_that_is_not_live_is_a_plain_error(runner: Runner) -> None:
    for action in (runner.pause, runner.play, runner.stop):
        with pytest.raises(WorkbenchError, match="not at work"):
            action("0001")
    with pytest.raises(WorkbenchError, match="no run"):
        runner.watch("0001")


def test_a_kind_without_a_job_is_refused(store: Store, workspace: Workspace) -> None:
    with Runner(store, workspace, {}) as runner, pytest.raises(WorkbenchError, match="no job of kind 'toy'"):
        runner.submit(Toy())
    assert store.runs() == []


def test_a_new_run_never_finds_another_ones_folder(runner: Runner, workspace: Workspace) -> None:
    (workspace.run("0012") / "checkpoint").mkdir()  # its database was lost
    assert runner.submit(Toy(name="a")) == "0013"


def test_time_left_comes_from_the_recent_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("workbench.runs.live.time.monotonic", lambda: clock[0])
    entry = Entry("0001", Toy(), Job(Stage().count, "device"), "toy", "a", status="running")
    entry.hear(Started(100))
    assert entry.line().seconds_left is None
    for step in range(1, 11):
        clock[0] += 2.0
        entry.hear(Measured(step, {"loss": 1.0}))
        entry.hear(Progress(step, 100))
    assert entry.line().seconds_left == pytest.approx(180.0)
    entry.set_status("paused")
    assert entry.line().seconds_left is None
    clock[0] += 1000.0
    entry.set_status("running")
    for step in range(11, 13):
        clock[0] += 1.0
        entry.hear(Progress(step, 100))
    assert entry.line().seconds_left == pytest.approx(88.0)


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    "error, told",
    [
        (WorkbenchError("A. B. C."), "A. B. C."),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk is full"),
        (MemoryError(), "machine ran out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes"), "machine ran out of memory"),
        (OutOfMemoryError("CUDA out of memory"), "graphics card ran out of memory"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x/y"), "The file /x/y could not be used"),
        (ValueError("shapes\n differ"), "ValueError: shapes differ"),
        (KeyError(), "(KeyError)"),
    ],
)
def test_every_error_is_a_sentence(error: Exception, told: str) -> None:
    assert told in sentence(error)
    assert "\n" not in sentence(error)


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA out of memory")])
def test_what_to_do_without_memory_is_what_the_job_can_do(error: Exception) -> None:
    assert "batch_size" in sentence(error, training=True) and "batch_size" not in sentence(error)
    assert "smaller models" in sentence(error)


def test_what_a_job_announces_is_not_announced_again(store: Store, workspace: Workspace) -> None:
    def work(spec, folder, workspace):
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text("x")
        yield Made("adapter", str(folder / "adapter"), 1)
        while True:
            yield Noted("waits")

    with Runner(store, workspace, job_of(work)) as runner:
        run = runner.submit(Toy())
        watch = runner.watch(run)
        assert isinstance(next(watch), Made)
        runner.stop(run)
        assert not [event for event in watch if isinstance(event, Made)]
