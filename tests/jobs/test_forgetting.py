"""What was forgotten by what was learnt: which runs are held together, the laws through them, and what is said where they are too few."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.estimate import estimate
from workbench.jobs.forgetting import COLUMNS, PICTURE, accounts, measured, table, told


def run(number: int, base: Path, learnt: float, forgotten: float, status: str = "finished", steps: int = 10, **spec: Any) -> Any:
    plain = TrainSpec(model=str(base), steps=steps, **spec).model_dump(mode="json")
    metrics = {"validation_loss": (9.0, learnt), "base_loss": (0.1, forgotten)}
    return SimpleNamespace(id=f"{number:04}", spec=plain, status=status, metrics=metrics, step=steps)


class Kept:
    def __init__(self, *runs: Any):
        self.kept = list(runs)

    def runs(self, kind: str | None = None) -> list[Any]:
        assert kind == "train"
        return self.kept[::-1]


def ranks(base: Path, law: Any) -> list[Any]:
    """Nine runs of three ranks and three lengths, which forget by a law of numbers and steps, and learn as they forget."""
    found = []
    for rank in (2, 8, 32):
        for steps in (10, 40, 160):
            forgotten = law(rank, steps)
            adapter = {"method": "lora", "rank": rank}
            found.append(run(len(found) + 1, base, 5 - 2 * forgotten, forgotten, steps=steps, adapter=adapter))
    return found


def test_runs_are_told_apart_by_all_but_adapter_update_and_steps(pico_folder: Path, workspace: Workspace) -> None:
    same = ranks(pico_folder, lambda rank, steps: 0.1 + 0.01 * rank**0.5 * steps**0.5)
    other = run(10, pico_folder, 1.0, 1.0, data={"path": "skill_a"})
    unfinished, silent = run(11, pico_folder, 1.0, 1.0, status="stopped"), run(12, pico_folder, 1.0, float("nan"))
    gone = run(13, pico_folder, 1.0, 1.0)
    gone.spec["adapter"] = {"method": "no_such"}
    found = measured(Kept(*same, other, unfinished, silent, gone), workspace)
    assert [one.run for one in found] == [f"{number:04}" for number in range(1, 11)]
    assert found[0].tuned.parameters == estimate(TrainSpec.parse(same[0].spec), workspace).trained and found[0].tuned.steps == 10
    (account,) = accounts(found)
    assert [one.run for one in account.runs] == [f"{number:04}" for number in range(1, 10)]


def test_the_line_and_the_powers_are_those_that_the_runs_were_made_by(pico_folder: Path, workspace: Workspace) -> None:
    found = measured(Kept(*ranks(pico_folder, lambda rank, steps: 0.1 + 0.01 * rank**0.5 * steps**0.25)), workspace)
    (account,) = accounts(found)
    assert (account.line.start, account.line.slope) == pytest.approx((2.5, 0.5)) and account.law is not None
    assert (account.law.parameters_power, account.law.steps_power) == pytest.approx((0.5, 0.25), rel=0.05)
    says = told(account)
    assert says[0].startswith("Loss on what was known = 2.5 − 0.5 · validation loss over 9 runs") and "twice the steps" in says[-1]
    shown = table(account)
    assert shown.columns == COLUMNS and len(shown.rows) == 9 and {PICTURE.x, PICTURE.y, PICTURE.each} <= set(COLUMNS)
    assert all(row[6] == pytest.approx(row[5], rel=1e-6) and row[7] == pytest.approx(row[5], rel=0.01) for row in shown.rows)


def test_without_different_sizes_there_is_a_line_and_why_there_is_no_law(pico_folder: Path, workspace: Workspace) -> None:
    runs = [run(number, pico_folder, 1 + number, 5 - 0.25 * number) for number in range(1, 9)]
    (account,) = accounts(measured(Kept(*runs), workspace))
    assert account.law is None and account.line.slope == pytest.approx(0.25)
    assert "Add runs with others" in told(account)[-1] and table(account).rows[0][7] is None


def test_too_few_runs_are_told_with_how_many_there_are(pico_folder: Path, workspace: Workspace) -> None:
    runs = [run(number, pico_folder, 1 + number, 1.0) for number in range(1, 4)]
    with pytest.raises(WorkbenchError, match=r"from 8 finished runs .* the most so far are 3\. Vary"):
        accounts(measured(Kept(*runs), workspace))
    with pytest.raises(WorkbenchError, match="the most so far are 0"):
        accounts([])
