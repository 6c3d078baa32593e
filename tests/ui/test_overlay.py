"""What is offered of several runs, and what becomes of those that are deleted together."""

from pathlib import Path

import pytest

from workbench.core.workspace import Workspace
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui.bench import first_spec
from workbench.ui.context import Context
from workbench.ui.deleting import deleted, question
from workbench.ui.overlay import PLANE, all_ticked, measures


def test_what_one_looks_at_first_is_offered_first() -> None:
    names = {"tokens_per_s", "validation_loss", "lr", "loss", "base_loss"}
    assert [name for _, name in measures(names)] == ["loss", "validation_loss", "base_loss", "lr", "tokens_per_s", PLANE]
    assert PLANE not in dict(measures({"loss"})).values()


def test_two_quick_ticks_are_both_there_and_those_out_of_sight_stay() -> None:
    """The second click comes before the first is answered, so that what the page holds is of before both."""
    assert all_ticked(["0009"], ["0001", "0002"], ["0003"]) == ["0001", "0002", "0009"]
    assert all_ticked(["0001", "0009"], ["0002"], ["0001"]) == ["0002", "0009"]


def test_runs_go_with_their_folders_and_one_at_work_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("workbench.ui.deleting.gr.Warning", told.append)
    workspace = Workspace(tmp_path)
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        over, live, other = (store.create("train", "", first_spec()) for _ in range(3))
        for run, status in ((over, "stopped"), (live, "running"), (other, "stopped")):
            workspace.run(run)
            store.mark(run, status)  # type: ignore[arg-type]
        store.flush()
        gone = deleted(Context(store, runner, workspace), [over, live, "9999"])
        assert gone == [over] and len(told) == 2
        assert [run.id for run in store.runs()] == [other, live]
        assert sorted(folder.name for folder in workspace.run_folders()) == sorted([live, other])


def test_the_question_says_how_many() -> None:
    assert "this run" in question(1) and "these 3 runs" in question(3)
