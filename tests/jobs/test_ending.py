"""A run that ends before its last step: each reason, by hand, and that what was counted survives a stop."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs.story import run, series
from workbench.core.errors import WorkbenchError
from workbench.core.events import Finished, Measured, Noted
from workbench.core.parts import StopSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint
from workbench.jobs.ending import Ending
from workbench.jobs.train import train


def test_patience_counts_evaluations_since_the_lowest() -> None:
    ending, stop = Ending(), StopSpec(patience=2)
    reasons = []
    for loss in (3.0, 2.0, 2.5, 1.9, 1.9, 2.0):
        ending.evaluated({"validation_loss": loss}, 1)
        reasons.append(ending.reason(stop))
    assert reasons[:5] == [""] * 5 and "has not fallen below 1.9 for 2 evaluations" in reasons[5]


@pytest.mark.parametrize(
    "stop, sentence",
    [
        ({"target": 1.5}, "reached 1.5"),
        ({"unsafe": 2}, "r of 1 or more 2 times"),
        ({"minutes": 0.5}, "0.5 minutes of steps are over"),
        ({"tokens": 300}, "300 tokens were read"),
    ],
)
def test_each_limit_ends_a_run_when_it_is_met_and_not_before(stop: dict, sentence: str) -> None:
    ending, limit = Ending(), StopSpec(**stop)
    for ratio in (0.9, 1.0, 0.99):
        ending.took({"step_ratio": ratio}, seconds=9.9, tokens=99)
    ending.evaluated({"validation_loss": 1.51}, 1)
    assert ending.reason(limit) == ""
    ending.took({"step_ratio": 4.0}, seconds=0.3, tokens=3)
    ending.evaluated({"validation_loss": 1.5}, 2)
    assert sentence in ending.reason(limit)
    assert ending.reason(StopSpec()) == ""


def test_a_run_without_finite_steps_fails_after_as_many_as_are_allowed() -> None:
    ending, stop = Ending(), StopSpec(not_finite=2)
    for finite in (False, True, False):
        ending.finite(finite, 1, stop)
    with pytest.raises(WorkbenchError, match="for 2 steps in a row"):
        ending.finite(False, 2, stop)


def test_what_was_counted_survives() -> None:
    ending = Ending()
    ending.took({"step_ratio": 2.0}, 1.5, 10)
    ending.evaluated({"validation_loss": 2.0}, 1)
    assert Ending.of_state(ending.state()) == ending
    assert Ending.of_state(Ending().state()).best == math.inf


def test_a_run_that_reached_its_target_keeps_what_it_learnt_and_says_so(spec: TrainSpec, workspace: Workspace) -> None:
    easy = TrainSpec(**{**spec.model_dump(), "stop": {"target": 100.0}})
    events = run(easy, workspace.run("0001"), workspace)
    assert list(series(events, "loss")) == [1], "the base had reached it; the first step ends the run"
    assert isinstance(events[-1], Finished) and events[-1].status == "finished" and "the target is 100" in events[-1].message
    assert (workspace.run("0001") / "adapter" / "adapter_model.safetensors").exists()


def test_a_resumed_run_goes_on_counting(spec: TrainSpec, workspace: Workspace) -> None:
    short = TrainSpec(**{**spec.model_dump(), "stop": {"tokens": 10**6}})
    job = train(short, workspace.run("0001"), workspace)
    for event in job:
        if isinstance(event, Measured) and event.step == 2 and "loss" in event.values:
            job.close()
            break
    ended = TrainSpec(**{**spec.model_dump(), "stop": {"tokens": 1}})
    events = run(ended, workspace.run("0001"), workspace)
    assert series(events, "loss") == {} and events[-1].message.endswith("tokens were read."), "two steps had been counted"


def worsening(spec: TrainSpec, **stop: object) -> TrainSpec:
    """A run that gets worse towards its end."""
    worse = {"update": {"method": "adamw", "lr": 3e-2}, "steps": 8, "evaluate_every": 2, "checkpoint_every": 3, "warmup": 0.0}
    return TrainSpec(**{**spec.model_dump(), **worse, "changes": [{"at": 5, "set": {"update.lr": 2.0}}], "stop": stop})


def test_what_is_kept_is_from_where_the_validation_loss_was_lowest(spec: TrainSpec, workspace: Workspace) -> None:
    folder = workspace.run("0001")
    events = run(worsening(spec, keep_best=True), folder, workspace)
    losses = series(events, "validation_loss")
    lowest = min(losses, key=losses.__getitem__)
    assert 0 < lowest < 8, "the case is worth testing"
    assert any(f"from step {lowest}" in event.text for event in events if isinstance(event, Noted))
    parts, kept = checkpoint.load(folder)[1], weights(folder)
    assert all(torch.equal(kept[name], tensor) for name, tensor in parts["best"].items()) and len(kept) == len(parts["best"])
    assert not all(torch.equal(kept[name], tensor) for name, tensor in parts["adapter"].items())


@pytest.mark.parametrize("stopped_at", [4, 5, 7])
def test_the_lowest_survives_a_stop(spec: TrainSpec, workspace: Workspace, stopped_at: int) -> None:
    worse = worsening(spec, keep_best=True)
    run(worse, workspace.run("0001"), workspace)
    job = train(worse, workspace.run("0002"), workspace)
    while not (isinstance(event := next(job), Measured) and event.step == stopped_at and "loss" in event.values):
        pass
    job.close()
    run(worse, workspace.run("0002"), workspace)
    one, other = weights(workspace.run("0001")), weights(workspace.run("0002"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_otherwise_the_last_is_kept(spec: TrainSpec, workspace: Workspace) -> None:
    run(worsening(spec), workspace.run("0001"), workspace)
    parts, kept = checkpoint.load(workspace.run("0001"))[1], weights(workspace.run("0001"))
    assert "best" not in parts and all(torch.equal(kept[name], tensor) for name, tensor in parts["adapter"].items())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")
