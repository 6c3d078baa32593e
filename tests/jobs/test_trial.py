"""The trial: real steps, timed without and with probes, of which nothing is left; in a process of its own it can be killed."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured, Progress
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import trial as module
from workbench.jobs.audit import Finding
from workbench.jobs.batches import Batches
from workbench.jobs.train import Run, train
from workbench.jobs.trial import MemoryWatch, Trial, planned, told, trial, tried
from workbench.materials.templates import Encoded
from workbench.methods.probes.forgetting import Forgetting
from workbench.methods.probes.gradient_norm import GradientNorm
from workbench.methods.probes.step_safety import StepSafety

FOUND = Trial(step=0.5, run=61.0, bytes=3_000_000, tokens=100, longest=100, device="cpu")


@pytest.fixture
def even(tmp_path: Path, pico_folder: Path) -> TrainSpec:
    """A run whose batches are all alike, so that what is timed can be reckoned by hand."""
    path = tmp_path / "even.jsonl"
    turns = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "It is in the town."}]
    path.write_text((json.dumps({"messages": turns}) + "\n") * 40)
    return TrainSpec(
        model=str(pico_folder), data={"path": str(path)}, steps=100, batch_size=4, evaluate_every=40, sample_every=30, probes=[]
    )


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_nothing_is_left_and_nothing_is_changed(
    spec: TrainSpec, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    (workspace.run("0001") / "kept.txt").write_text("as it was")
    torch.manual_seed(3)
    before, random = files(tmp_path), torch.get_rng_state()
    found = drain(trial(spec, workspace))
    assert files(tmp_path) == before and not list(scratch.iterdir())
    assert torch.equal(torch.get_rng_state(), random)
    assert found.step > 0 and found.run > spec.steps * found.step and found.device == "cpu"


def test_a_trial_that_is_given_up_leaves_nothing_either(spec: TrainSpec, workspace: Workspace) -> None:
    random, work = torch.get_rng_state(), trial(spec, workspace)
    while next(work).what != "steps tried":
        pass
    work.close()
    assert torch.equal(torch.get_rng_state(), random)


def test_the_run_after_a_trial_is_the_run_without_one(spec: TrainSpec, workspace: Workspace) -> None:
    losses = []
    for tries in (0, 1):
        if tries:
            drain(trial(spec, workspace))
        events = train(spec, workspace.run(f"000{tries}"), workspace)
        losses.append([event.values["loss"] for event in events if isinstance(event, Measured) and "loss" in event.values])
    assert losses[0] == losses[1]


def test_three_steps_after_the_first_are_timed_without_probes(
    spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, list[int]] = {}
    for probe in (GradientNorm, StepSafety, Forgetting):

        def spy(self, moment, name=probe.__name__, original=probe.read):
            read.setdefault(name, []).append(moment.step)
            return original(self, moment)

        monkeypatch.setattr(probe, "read", spy)
    drain(trial(spec, workspace))
    assert read == {"GradientNorm": [1, 5], "StepSafety": [1, 5], "Forgetting": [5]}
    read.clear()
    guarded = TrainSpec(**{**spec.model_dump(), "update": {"method": "adamw", "guard": "cap"}})
    drain(trial(guarded, workspace))
    assert read["StepSafety"] == [1, 2, 3, 4, 5], "what a guard goes by belongs to every step"


def test_the_whole_run_is_the_sum_of_its_parts(even: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 steps of 2 s, evaluations at 0, 40, 80, 100 of 1,000 s, and sample answers at 0, 30, 60, 90, 100 of 10,000 s."""
    seconds = iter([50, 1, 2, 3, 70, 1_000, 10_000])

    def clocked(work: Callable[[], object]) -> float:
        work()
        return next(seconds)

    monkeypatch.setattr(module, "_timed", clocked)
    found = drain(trial(even, workspace))
    assert found.step == 2 and 0 < found.run - (100 * 2 + 4 * 1_000 + 5 * 10_000) < 60, "what is left is the loading"


def test_a_step_of_average_length_is_told(even: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of forty is very long and in none of the batches that are tried, so their steps are shorter than most of the run's."""
    spec = TrainSpec(**{**even.model_dump(), "data": {**even.data.model_dump(), "validation_share": 0.0}})
    batches = Batches.of([Encoded([1, 2], [True, True], 0)] * 40, spec, 0)
    early = {row for step in range(1, 6) for batch in batches.window(step) for row in batch["rows"].unique().tolist()}
    rows = Path(spec.data.path).read_text().splitlines()
    rows[min({*range(40)} - early)] = rows[0].replace("in the town.", "in the town. " * 10)
    Path(spec.data.path).write_text("\n".join(rows) + "\n")
    seconds = iter([50, 2, 2, 2, 70, 0, 0])
    monkeypatch.setattr(module, "_timed", lambda work: (work(), next(seconds))[1])
    found = drain(trial(spec, workspace))
    assert found.longest > 2 * found.tokens and found.step > 2
    assert "The longest rows together would make" in told(found)[2]


def share(probe: object, guard: str = "monitor", reading: float = 1.0) -> float:
    spec = TrainSpec(steps=100, probes=["step_safety"], update={"method": "adamw", "guard": guard})
    return module._share(probe, spec, {"step_safety": reading, "gradient_norm": reading, "forgetting": reading}, 2.0)


def test_a_probe_costs_its_average_share() -> None:
    assert share(StepSafety(every=10, share=1.0)) == pytest.approx(0.11), "steps 1, 10, 20, … 100"
    assert share(StepSafety(every=10, share=0.01)) == 0.01 * 2.0, "its budget"
    assert share(GradientNorm()) == 1.0, "every step"
    assert share(StepSafety(every=10), guard="cap") == share(Forgetting()) == 0.0, "it was timed with the step, or the evaluation"


def test_memory_is_the_most_that_was_held() -> None:
    watch = MemoryWatch()
    held = torch.ones(20_000_000)
    time.sleep(0.05)
    del held
    time.sleep(0.05)
    assert watch.stop() == pytest.approx(80e6, rel=0.1)


def test_a_trial_in_sentences() -> None:
    step, run, memory = told(FOUND)
    assert step.startswith("A step takes 0.5 s") and "about 1 min 1 s" in run
    assert memory == "Memory grew by 3 MB at the most, with 100 tokens in the largest batch."
    assert "would make 900 tokens and need more than was seen" in told(Trial(0.5, 61, 3, 100, 900, "cpu"))[2]
    assert told(Trial(0.5, 61, 3_000, 100, 100, "cuda"))[2].startswith("The GPU held 3 kB at the most")


def test_what_does_not_fit_is_a_sentence(spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Run, "advance", full)
    with pytest.raises(WorkbenchError, match=r"do not fit into the memory of this machine .* Lower the batch size"):
        drain(trial(spec, workspace))


def test_a_plan_is_the_audit_and_the_trial(spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [line for line in planned(spec, workspace) if isinstance(line, str)]
    assert said[0].startswith("✓ ") and "numbers will move" in said[0] and said[-3].startswith("A step takes ")
    monkeypatch.setattr(module, "audit", lambda spec, workspace: [Finding("watch", "few"), Finding("act", "no room")])
    monkeypatch.setattr(module, "trial", None)  # is not asked
    work = planned(spec, workspace)
    assert [next(work), next(work)] == ["! few", "✗ no room"]
    with pytest.raises(WorkbenchError, match="cannot start"):
        next(work)


# In a process of its own.


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a shell script where the process of the trial is."""

    def put(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(path))

    return put


@pytest.mark.slow
def test_a_trial_in_a_process_of_its_own_says_the_same(spec: TrainSpec, workspace: Workspace) -> None:
    said = []
    work = tried(spec, workspace)
    try:
        while True:
            said.append(next(work))
    except StopIteration as end:
        assert [text.split(" ")[0] for text in end.value] == ["A", "The", "Memory"]
    assert all(isinstance(event, Progress) for event in said) and said[-1].what == "sample answers tried"


def test_what_else_is_printed_there_is_no_message(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def noisy(spec: TrainSpec, workspace: Workspace) -> Iterator[Progress]:
        print("a library says hello")
        yield Progress(1, 2, "x")
        return FOUND

    (tmp_path / "wanted.json").write_text(json.dumps({"spec": TrainSpec().model_dump(mode="json"), "home": str(workspace.home)}))
    monkeypatch.setattr(module, "trial", noisy)
    monkeypatch.setattr(module.sys, "argv", ["trial", str(tmp_path / "wanted.json")])
    module.main()
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [["progress", {"done": 1, "total": 2, "what": "x"}], ["found", asdict(FOUND)]]


def test_a_trial_that_fails_or_is_killed_is_a_sentence(workspace: Workspace, instead: Callable[[str], None]) -> None:
    instead('echo \'["failed", "There is no such row."]\'')
    with pytest.raises(WorkbenchError, match="There is no such row"):
        drain(tried(TrainSpec(), workspace))
    instead("kill -9 $$")
    with pytest.raises(WorkbenchError, match="killed by the system, most likely because memory ran out"):
        drain(tried(TrainSpec(), workspace))
    instead("echo 'ValueError: why' >&2; exit 3")
    with pytest.raises(WorkbenchError, match=r"ended before it had a result \(status 3\): ValueError: why"):
        drain(tried(TrainSpec(), workspace))


def test_who_leaves_ends_the_process(workspace: Workspace, tmp_path: Path, instead: Callable[[str], None]) -> None:
    instead(
        f"echo $$ > {tmp_path}/pid; touch $TMPDIR/left; echo $TMPDIR > {tmp_path}/where; "
        'echo \'["progress", {"done": 1, "total": 2, "what": "x"}]\'; exec sleep 60'
    )
    work = tried(TrainSpec(), workspace)
    next(work)
    assert next(work) == Progress(1, 2, "x")
    began = time.monotonic()
    work.close()
    assert time.monotonic() - began < 30, "it does not wait for the process to end by itself"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not Path((tmp_path / "where").read_text().strip()).exists(), "what the process left on disk goes with it"
