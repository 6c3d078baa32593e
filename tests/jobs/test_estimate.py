"""The estimate: counts are exact, memory grows with what makes it grow, and nothing is loaded."""

from pathlib import Path

import pytest
from pico import make_model

from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.estimate import choices, estimate


def test_counts_are_those_of_the_model(pico_folder: Path, workspace: Workspace) -> None:
    parameters = sum(parameter.numel() for parameter in make_model().parameters())
    full = estimate(TrainSpec(model=str(pico_folder), adapter="full"), workspace)
    assert (full.trained, full.total) == (parameters, parameters)
    memory = dict(full.memory)
    assert memory["weights"] == memory["gradients"] == memory["copy of the start"] == 4 * parameters
    assert memory["optimizer"] == 8 * parameters and full.machine_bytes > 1e9


@pytest.mark.parametrize(
    "more", [{"batch_size": 64}, {"data": {"max_length": 4096}}, {"adapter": {"method": "lora", "rank": 128}}, {"adapter": "full"}]
)
def test_more_costs_more(pico_folder: Path, workspace: Workspace, more: dict) -> None:
    small = {"model": str(pico_folder), "adapter": {"method": "lora", "rank": 2}}
    assert estimate(TrainSpec(**{**small, **more}), workspace).bytes > estimate(TrainSpec(**small), workspace).bytes


def test_the_demo_model_can_always_be_chosen(workspace: Workspace) -> None:
    assert choices(workspace)[0][0] == "pocket"
