"""Grafts that inspections have kept: which there are, what they are called, and whose rows they are scored on."""

from pathlib import Path

import pytest
import torch
import yaml
from pico import make_model

from workbench.core.workspace import Workspace
from workbench.jobs.grafts import behind, grafts
from workbench.jobs.scoring import of_runs
from workbench.materials.sparse import save_sparse


@pytest.fixture
def inspected(workspace: Workspace) -> Path:
    """The folder of an inspection of two models, which kept a graft of each."""
    folder = workspace.run("0007")
    (folder / "spec.yaml").write_text(yaml.safe_dump({"kind": "inspect", "models": ["run:0001", "model:both"]}))
    for place in (1, 2):
        (folder / f"graft-{place}").mkdir()
        save_sparse(folder / f"graft-{place}", make_model(), {"model.norm.weight": (torch.tensor([0]), torch.ones(1))}, "pocket")
    (folder / "graft-3").mkdir()  # of an inspection that was stopped as it wrote
    return folder


def test_those_that_are_there_are_listed_with_what_they_are_of(inspected: Path, workspace: Workspace) -> None:
    found = grafts(workspace, {"run:0001": "run 0001 · teller"})
    assert found == [
        (str(inspected / "graft-1"), "run 0007 · graft of run 0001 · teller"),
        (str(inspected / "graft-2"), "run 0007 · graft of model:both"),
    ]


def test_behind_a_graft_is_the_model_that_was_inspected(inspected: Path) -> None:
    assert [behind(str(inspected / f"graft-{place}")) for place in (1, 2)] == ["run:0001", "model:both"]
    assert [behind(reference) for reference in ("run:0001", "pocket", "/models/graft-9")] == ["run:0001", "pocket", "/models/graft-9"]
    (inspected / "spec.yaml").write_text("a: [")
    assert behind(str(inspected / "graft-1")) == str(inspected / "graft-1")


def test_a_graft_is_scored_on_what_its_run_held_back(inspected: Path, workspace: Workspace) -> None:
    spec = {"model": "pocket", "data": {"path": "quickstart", "validation_share": 0.1}, "seed": 3}
    (workspace.run("0001") / "spec.yaml").write_text(yaml.safe_dump(spec))
    (told,) = of_runs([str(inspected / "graft-1"), "pocket"], workspace)
    assert told == next(of_runs(["run:0001"], workspace)) and told[0].path == "quickstart" and told[1] == 3
