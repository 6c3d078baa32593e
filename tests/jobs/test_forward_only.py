"""A run whose update asks for losses alone: no backward pass, the same rows either side, and the same run after a stop."""

import pytest
import torch

from tests.jobs.story import run, same, series, stopped
from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured, Noted
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.estimate import estimate
from workbench.jobs.objective import Objective
from workbench.jobs.train import begin, train

MEZO = {"method": "mezo", "lr": 1e-3, "directions": 2}
ES = {"method": "es", "population": 4}


@pytest.fixture(params=[MEZO, ES], ids=["mezo", "es"])
def wanted(spec: TrainSpec, request: pytest.FixtureRequest) -> TrainSpec:
    adapter = {"method": "lora", "rank": 2, "dropout": 0.3}
    more = {"update": request.param, "adapter": adapter, "prompts": [], "steps": 6, "accumulate": 2, "batch_size": 2}
    return TrainSpec.parse({**spec.model_dump(mode="json"), **more})


def test_no_gradient_is_ever_taken_and_the_curve_is_there(wanted: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.Tensor, "backward", refused)
    monkeypatch.setattr(torch.autograd, "backward", refused)
    events = run(wanted, workspace.run("0001"), workspace)
    assert set(series(events, "loss")) == set(range(1, 7)) and not series(events, "grad_norm")
    assert series(events, "validation_loss").keys() >= {3, 6}
    assert len(set(series(events, "loss").values())) == 6


def test_all_readings_of_a_step_see_the_same_rows_without_dropout(
    wanted: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, losses = list[list[list[int]]](), Objective.losses

    def spy(self: Objective, window: list, step: int, share: float) -> dict[str, float]:
        seen.append([batch["input_ids"].tolist() for batch in window])
        first, second = losses(self, window, step, share), losses(self, window, step, share)
        assert first == second, "nothing is drawn in a reading"
        return first

    monkeypatch.setattr(Objective, "losses", spy)
    run(TrainSpec.parse({**wanted.model_dump(mode="json"), "steps": 2}), workspace.run("0001"), workspace)
    half = len(seen) // 2
    assert (
        half == 4 and all(own == seen[0] for own in seen[:half]) and all(own == seen[half] for own in seen[half:]) and seen[0] != seen[half]
    )


def test_a_run_that_was_stopped_goes_on_bit_for_bit(wanted: TrainSpec, workspace: Workspace) -> None:
    whole = run(wanted, workspace.run("0001"), workspace)
    first = stopped(wanted, workspace.run("0002"), workspace, 3, Measured)
    second = run(wanted, workspace.run("0002"), workspace)
    assert series(first, "loss") | series(second, "loss") == series(whole, "loss")
    assert same(workspace.run("0001") / "adapter", workspace.run("0002") / "adapter")


def test_what_is_read_is_what_is_made_smaller_and_an_adapter_hears_of_a_step_once(
    wanted: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = drain(begin(wanted, workspace.run("0001"), workspace))
    read, heard, step = list[float](), list[int](), job.stepper.step
    monkeypatch.setattr(job.objective, "losses", lambda *_: {"loss": 1.0, "objective": 2.0})
    monkeypatch.setattr(job.stepper, "step", lambda rate, again: step(rate, lambda: read.append(again()) or read[-1]))
    monkeypatch.setattr(job.attachment, "before_step", heard.append)
    job.advance()
    assert read == [2.0] * 4 and heard == [1]


def test_losses_that_are_no_numbers_are_told_and_end_the_run(
    wanted: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Objective, "losses", lambda *_: {"loss": float("nan")})
    spec = TrainSpec.parse({**wanted.model_dump(mode="json"), "stop": {"not_finite": 3}})
    events = []
    with pytest.raises(WorkbenchError, match="Lower the learning rate"):
        for event in run_of(spec, workspace):
            events.append(event)
    assert any(isinstance(event, Noted) and "nothing was moved" in event.text for event in events)


def run_of(spec: TrainSpec, workspace: Workspace) -> object:
    return train(spec, workspace.run("0003"), workspace)


def test_the_memory_is_that_of_answering(wanted: TrainSpec, workspace: Workspace) -> None:
    many = {**wanted.model_dump(mode="json"), "batch_size": 64, "accumulate": 1}
    less, more = (dict(estimate(TrainSpec.parse({**many, **changes}), workspace).memory) for changes in ({}, {"update": "adamw"}))
    assert "optimizer" not in less and "gradients" not in less and less["activations"] < more["activations"] / 2
