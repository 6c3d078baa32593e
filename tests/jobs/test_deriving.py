"""A data set made of what a recipe keeps: whole or not at all, with its rows as the steps left them and the recipe beside them."""

import json
from pathlib import Path

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Made, Table
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs.curate import data_sets
from workbench.jobs.deriving import derive, remedies
from workbench.materials import kept
from workbench.materials.corpus import load


@pytest.fixture
def spec(tmp_path: Path) -> DataSpec:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n}?", "completion": f"Write to a{n}@b.org.", "n": n} for n in (1, 2, 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSpec(path=str(path), selectors=["exact_duplicates", "private_data"])


def test_it_holds_what_the_steps_left(spec: DataSpec, workspace: Workspace) -> None:
    *_, steps, made = [event for event in derive(spec, "less", workspace) if isinstance(event, Table | Made)]
    assert made == Made("data", str(workspace.data("less")))
    assert steps.rows == [[1, "Exact duplicates", 1, 0], [2, "Private data", 0, 2], ["", "kept", 2, ""]]
    rows = list(load("less", workspace).examples)
    assert [row.messages[1]["content"] for row in rows] == ["Write to <EMAIL>."] * 2 and [row.meta for row in rows] == [{"n": 1}, {"n": 2}]
    assert [choice.rows for choice in data_sets(workspace) if choice.name == "less"] == [2]
    assert DataSpec.parse(json_of(kept.original(workspace.data("less")))) == spec


def json_of(path: Path) -> dict:
    import yaml

    return yaml.safe_load(path.read_text())


def test_it_is_there_whole_or_not_at_all(spec: DataSpec, workspace: Workspace) -> None:
    work = derive(spec, "less", workspace)
    while not any(workspace.data().iterdir()):
        next(work)
    work.close()
    assert not list(workspace.data().iterdir())
    list(derive(spec, "less", workspace))
    with pytest.raises(WorkbenchError, match="There is a data set 'less' already"):
        list(derive(spec, "less", workspace))


def test_nothing_is_made_of_nothing(spec: DataSpec, workspace: Workspace) -> None:
    none = spec.model_copy(update={"selectors": DataSpec(selectors=[{"method": "length", "fewest": 9999, "most": 99999}]).selectors})
    with pytest.raises(WorkbenchError, match="The steps keep no row"):
        list(derive(none, "less", workspace))
    assert not list(workspace.data().iterdir())


def test_what_is_for_which_finding() -> None:
    assert remedies(["copies", "private data", "few"]) == ["exact_duplicates", "private_data"] and remedies([]) == []
