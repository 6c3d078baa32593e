"""Thirty steps of every objective on plain torch, and on the ops of our own: the same losses, and the same is learnt."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import make_model
from safetensors.torch import load_file

from workbench.core.events import Measured
from workbench.core.method import shelf
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.train import train

NEEDS = {"poft": "aligned", "forgetting_tokens": "reference"}  # the knob that names a model without which a loss does not begin
STEPS = 30


def run(spec: TrainSpec, folder: Path, workspace: Workspace) -> tuple[list[float], list[float], torch.Tensor]:
    """Losses, what was made smaller, and all that was learnt in one row."""
    values = [event.values for event in train(spec, folder, workspace) if isinstance(event, Measured) and "grad_norm" in event.values]
    learnt = load_file(folder / "adapter" / "adapter_model.safetensors")
    losses = [step["loss"] for step in values]
    return losses, [step.get("objective", step["loss"]) for step in values], torch.cat([learnt[name].flatten() for name in sorted(learnt)])


def plan(spec: TrainSpec, **more: Any) -> TrainSpec:
    quiet = {"evaluate_every": 10**6, "sample_every": 10**6, "checkpoint_every": 10**6, "probes": ["gradient_norm"], "steps": STEPS}
    return TrainSpec(**{**spec.model_dump(), **quiet, "batch_size": 2, "update": {"method": "adamw", "lr": 1e-3}, **more})


def judge(spec: TrainSpec, folder: Path) -> str:
    """The base, tuned on something else."""
    shutil.copytree(spec.model, folder / "judge")
    make_model(seed=1).save_pretrained(folder / "judge")
    return str(folder / "judge")


@pytest.mark.parametrize("name", sorted(shelf("losses")))
def test_an_objective_is_the_same_on_both(
    name: str, spec: TrainSpec, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [json.loads(line) | {"task": f"task {number % 2}"} for number, line in enumerate(Path(spec.data.path).read_text().splitlines())]
    Path(spec.data.path).write_text("".join(json.dumps(row) + "\n" for row in told))
    knobs = {NEEDS[name]: judge(spec, tmp_path)} if name in NEEDS else {}
    own = plan(spec, loss={"method": name, **knobs}, data={**spec.data.model_dump(), "task": "task"})
    losses, objective, learnt = run(own, workspace.run("0001"), workspace)
    monkeypatch.setenv("WORKBENCH_ROAD", "reference")
    plain_losses, plain_objective, plain_learnt = run(own, workspace.run("0002"), workspace)
    assert len(losses) == STEPS and losses[-1] != losses[0]
    assert losses == pytest.approx(plain_losses, rel=1e-3) and objective == pytest.approx(plain_objective, rel=1e-3, abs=1e-6)
    assert (learnt - plain_learnt).norm() <= 1e-2 * plain_learnt.norm()


@pytest.mark.parametrize(
    "more",
    [{"packing": True}, {"adapter": "full"}, {"precision": "bfloat16"}, {"recompute": True}, {"packing": True, "precision": "bfloat16"}],
    ids=str,
)
def test_so_is_a_run_of_another_kind(more: dict[str, Any], spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    own = plan(spec, **more)
    found = [
        event.values["loss"]
        for event in train(own, workspace.run("0001"), workspace)
        if isinstance(event, Measured) and "loss" in event.values
    ]
    monkeypatch.setenv("WORKBENCH_ROAD", "reference")
    plain = [
        event.values["loss"]
        for event in train(own, workspace.run("0002"), workspace)
        if isinstance(event, Measured) and "loss" in event.values
    ]
    assert found == pytest.approx(plain, rel=2e-2 if "precision" in more else 1e-3)
