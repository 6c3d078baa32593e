"""Another name is there wherever runs are named, and nothing else of the run changes."""

from pathlib import Path

import pytest
import yaml

from workbench.core.errors import WorkbenchError
from workbench.core.spec import parse_spec
from workbench.core.workspace import Workspace
from workbench.runs.store import Store
from workbench.ui.bench import first_spec
from workbench.ui.naming import LONGEST, renamed


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_a_run_is_called_so_in_the_list_and_in_its_folder(workspace: Workspace) -> None:
    with Store(workspace.database) as store:
        run = store.create("train", "before", {**first_spec(), "name": "before"})
        path = workspace.run(run) / "spec.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(parse_spec({**first_spec(), "name": "before"}).to_yaml())
        renamed(store, workspace, run, "Märchen: 2")
        assert store.run(run).name == "Märchen: 2"
        assert yaml.safe_load(path.read_text(encoding="utf-8")) == {**first_spec(), "name": "Märchen: 2"}
        assert [file.name for file in path.parent.iterdir()] == ["spec.yaml"]


def test_a_name_that_is_too_long_changes_nothing(workspace: Workspace) -> None:
    with Store(workspace.database) as store:
        run = store.create("train", "before", first_spec())
        with pytest.raises(WorkbenchError, match="Shorten"):
            renamed(store, workspace, run, "x" * (LONGEST + 1))
        assert store.run(run).name == "before"
