"""Taking up again what a run was made of: what is offered, and what the Merge tab's form then holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from pico import make_model

from workbench.core.spec import InspectSpec, MergeSpec, TrainSpec
from workbench.core.workspace import Workspace
from workbench.materials.sparse import save_sparse
from workbench.runs.records import Run
from workbench.runs.store import Store
from workbench.ui import merging
from workbench.ui.again import label, recipe_of


@pytest.fixture
def store(workspace: Workspace) -> Iterator[Store]:
    opened = Store(workspace.database)
    yield opened
    opened.close()


def made(store: Store, kind: str, spec: TrainSpec | MergeSpec | InspectSpec) -> Run:
    number = store.create(kind, "", spec.model_dump(mode="json"))
    store.flush()
    return store.run(number)


def graft(folder: Path) -> str:
    folder.mkdir(parents=True)
    save_sparse(folder, make_model(), {"model.norm.weight": (torch.tensor([0]), torch.ones(1))}, "pocket")
    return str(folder)


def test_a_merge_fills_the_form_with_its_recipe(store: Store, workspace: Workspace) -> None:
    spec = MergeSpec(
        name="both", models=[{"model": "run:0001", "weight": [0.2, 1.0]}], merge={"method": "ties"}, vary={"density": [0.1, 0.3]}
    )
    run = made(store, "merge", spec)
    name, held = merging.taken_up(recipe_of(run, workspace))
    assert label(run, workspace) == "Use this recipe again" and name == "both" and merging.spec_of(held, name) == spec


def test_grafts_come_as_tuned_models_on_their_base(store: Store, workspace: Workspace) -> None:
    run = made(store, "inspect", InspectSpec(models=["run:0001", "run:0002"]))
    assert label(run, workspace) == ""
    kept = [graft(workspace.run(run.id) / f"graft-{place}") for place in (1, 2)]
    workspace.run("0001").joinpath("spec.yaml").write_text(yaml.safe_dump({"model": "model:big"}))
    _, held = merging.taken_up(recipe_of(run, workspace))
    assert label(run, workspace) == "Merge with its graft" and held["base"] == "model:big"
    assert [given["model"] for given in held["models"]] == kept
    named = made(store, "inspect", InspectSpec(models=["run:0001"], base="pocket"))
    assert recipe_of(named, workspace)["base"] == "pocket"


def test_a_training_run_goes_onto_the_bench_and_no_run_nowhere(store: Store, workspace: Workspace) -> None:
    assert label(made(store, "train", TrainSpec()), workspace) == "Use this spec again" and label(None, workspace) == ""
