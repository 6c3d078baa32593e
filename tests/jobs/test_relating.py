"""Sets that say like things are near: symmetric, one on the diagonal, and the halves of one set each other's nearest."""

import json
from pathlib import Path

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.workspace import Workspace
from workbench.jobs.relating import nearest, related
from workbench.materials.world.skills import World


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    made = []
    for skill in ("facts", "arithmetic"):
        rows = World().rows(skill, 60, seed=0, held_out=False)
        for half in (0, 1):
            path = tmp_path / f"{skill}-{half}.jsonl"
            path.write_text("".join(json.dumps({"messages": row.messages()}) + "\n" for row in rows[half::2]))
            made.append(str(path))
    return made


def test_the_halves_of_a_set_are_nearest_to_each_other(names: list[str], workspace: Workspace, pico_folder: Path) -> None:
    found = drain(related(names, workspace, str(pico_folder)))
    assert all(found[a][b] == pytest.approx(found[b][a]) and found[a][a] == pytest.approx(1) for a in range(4) for b in range(4))
    for place, name in enumerate(names):
        assert nearest(names, found, name)[0][0] == names[place ^ 1]
        assert [value for _, value in nearest(names, found, name)] == sorted(
            (found[place][other] for other in range(4) if other != place), reverse=True
        )


def test_one_set_alone_is_like_nothing(workspace: Workspace) -> None:
    with pytest.raises(WorkbenchError, match="Name two or more"):
        drain(related(["quickstart"], workspace))
