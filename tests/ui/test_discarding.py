"""A data set of one's own can be deleted, whole; what comes with the program cannot."""

import json
from pathlib import Path

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.workspace import Workspace
from workbench.jobs.ingest import ingest
from workbench.ui.bench import first_spec
from workbench.ui.discarding import discard, own


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "Who?", "completion": "Me."}) + "\n")
    made = Workspace(tmp_path / "home")
    drain(ingest(path, "mine", made))
    return made


def test_it_goes_with_its_folder_and_the_file_stays(workspace: Workspace, tmp_path: Path) -> None:
    assert own(workspace, "mine")
    discard(workspace, "mine")
    assert not own(workspace, "mine") and not list(workspace.data().iterdir()) and (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("name", [first_spec()["data"]["path"], "never-there", "../home", ""])
def test_nothing_else_is_touched(workspace: Workspace, name: str) -> None:
    before = sorted(workspace.home.rglob("*"))
    with pytest.raises(WorkbenchError, match="Choose"):
        discard(workspace, name)
    assert sorted(workspace.home.rglob("*")) == before
