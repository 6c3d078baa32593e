"""The forecast: which runs make a curve, which of them count, what is said of it, and what a training run leaves on record for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Table
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.forecast import Trained, as_values, asked, curves, points_table, ranked, ranking_table, rows_table, told, trained
from workbench.jobs.train import train
from workbench.materials.scaling import Law

LAW = Law(scale=20.0, seen=4.0, power=0.5, floor=0.5)


def run(
    number: int, rows: int, loss: float | None = None, model: str = "pocket", data: dict[str, Any] | None = None, **more: Any
) -> Trained:
    spec = TrainSpec(model=model, data={"most_rows": rows, **(data or {})}, **more)
    return Trained(f"{number:04}", spec.model_dump(mode="json"), rows, LAW(rows) if loss is None else loss)


def four(first: int = 1, **more: Any) -> list[Trained]:
    return [run(first + place, 100 * 2**place, **more) for place in range(4)]


def test_runs_that_differ_only_in_their_rows_make_a_curve() -> None:
    (curve,) = curves(
        [*four(), run(9, 300, seed=1), run(10, 350, update={"method": "adamw", "lr": 1e-5}), run(11, 370, data={"path": "skill_a"})]
    )
    assert (curve.model, curve.data, curve.most) == ("pocket", "quickstart", 800)
    assert [one.rows for one in curve.points] == [100, 200, 400, 800]
    assert curve.law(1600) == pytest.approx(LAW(1600), rel=0.02)
    assert curve.line.used == 3 or curve.line(1600) == pytest.approx(LAW(1600), rel=0.2)


def test_what_costs_only_time_may_differ() -> None:
    runs = [run(place, 100 * 2**place, steps=20 * 2**place, name=f"try {place}", evaluate_every=5 + place) for place in range(4)]
    assert len(curves(runs)) == 1


def test_of_two_runs_with_as_many_rows_the_better_counts() -> None:
    (curve,) = curves([run(8, 400, 0.9), *four(), run(9, 400, 9.9)])
    assert [(one.run, one.loss) for one in curve.points if one.rows == 400] == [("0008", 0.9)]


def test_fewer_than_four_are_refused_with_what_there_is() -> None:
    with pytest.raises(WorkbenchError, match=r"^There is no finished training run yet .* 4 finished runs of one model"):
        curves([])
    near = r"^The nearest are 3 runs of pocket on quickstart, with 100, 200, 400 rows\. A forecast needs 4 .*data\.most_rows"
    with pytest.raises(WorkbenchError, match=near):
        curves([*four()[:3], run(7, 800, seed=3), run(8, 400)])
    with pytest.raises(WorkbenchError, match="no finished training run"):
        curves(four(), model="other")
    assert [curve.model for curve in curves([*four(), *four(5, model="other")], model="other")] == ["other"]


def test_models_are_ranked_within_a_task_by_the_line() -> None:
    better = [run(20 + place, 100 * 2**place, 0.8 * LAW(100 * 2**place), model="better") for place in range(4)]
    elsewhere = four(30, data={"path": "skill_a"})
    found = curves([*four(), *better, *elsewhere])
    (order,) = ranked(found, 5000)
    assert [curve.model for curve in order] == ["better", "pocket"]
    table = ranking_table(order, 5000)
    assert [row[0] for row in table.rows] == ["better", "pocket"] and "5,000 rows" in table.columns[1]
    swapped = [replace(curve, law=Law(size, 0.0, 1.0, 0.1)) for size, curve in ((9.0, order[0]), (1.0, order[1]))]
    assert ranked(swapped, 5000) == [swapped], "whatever the law says"
    assert table.rows[0][1] == order[0].line(5000) and table.rows[0][2] == order[0].law(5000)


def test_what_is_said_of_a_curve() -> None:
    (curve,) = curves(four())
    law, later = told(curve, 8000)
    assert law.startswith("L(D) = ") and "four runs leave nothing over" in law
    assert later.startswith("With 8,000 rows about ") and "% lower than with 800; " in later
    (five,) = curves([*four(), run(9, 1600)])
    assert "four runs" not in told(five, 8000)[0]
    assert "a guess" in told(curve, 90_000)[-1] and "a guess" not in told(curve, 80_000)[-1]
    (rising,) = curves([run(place, 100 * 2**place, 1.0 + place / 10) for place in range(4)])
    assert any("did not fall with more rows" in sentence for sentence in told(rising, 8000))
    flat, less = (curves([run(place, 100 * 2**place, 1.0 - place * fall) for place in range(4)])[0] for fall in (0.0001, 0.1))
    assert "hardly lower than with 800" in told(flat, 1600)[1]
    assert "% lower than with 800" in told(less, 1600)[1] and "% higher than with 800" in told(less, 100)[1]
    assert asked([curve, five], 0) == 6400 and asked([curve], 77) == 77
    assert points_table(curve).rows[0][:2] == [100, LAW(100)] and points_table(curve).rows[0][3] == "0001"
    values = as_values(curve, 8000)
    assert values["by_law"] == curve.law(8000) and values["points"][3] == {"run": "0004", "rows": 800, "loss": LAW(800)}


# What is on record.


@dataclass
class Recorded:
    id: str
    status: str = "finished"
    spec: dict[str, Any] = field(default_factory=lambda: TrainSpec().model_dump(mode="json"))
    metrics: dict[str, Any] = field(default_factory=lambda: {"validation_loss": (3.0, 1.0)})


class Given:
    """A database that holds these runs, newest first, each with its rows and its validation losses."""

    def __init__(self, runs: Sequence[Recorded], rows: Sequence[int | None], losses: Sequence[list[float]]):
        self.given = {run.id: (run, count, own) for run, count, own in zip(runs, rows, losses, strict=True)}

    def runs(self, kind: str | None = None) -> list[Recorded]:
        assert kind == "train"
        return [run for run, *_ in reversed(self.given.values())]

    def tables(self, run: str) -> list[Table]:
        count = self.given[run][1]
        return [Table("other", ["what"], [["learnt from", 7]]), *([rows_table(count, 3)] if count else [])]

    def series(self, run: str, name: str) -> tuple[list[int], list[float]]:
        assert name == "validation_loss"
        return list(range(len(self.given[run][2]))), self.given[run][2]


def test_finished_runs_count_with_their_lowest_loss() -> None:
    runs = [Recorded("0001"), Recorded("0002", status="failed"), Recorded("0003", metrics={}), Recorded("0004"), Recorded("0005")]
    losses = [[3.0, 1.2, 2.0], [1.0], [1.0], [1.0], [math.nan, math.inf, 0.0, 0.7]]
    found = trained(Given(runs, [100, 100, 100, None, 400], losses))
    assert [(one.run, one.rows, one.loss) for one in found] == [("0001", 100, 1.2), ("0005", 400, 0.7)]
    assert trained(Given(runs[:1], [100], [[math.nan]])) == []


def test_a_training_run_leaves_its_rows_on_record(spec: TrainSpec, workspace: Workspace) -> None:
    fewer = TrainSpec(**{**spec.model_dump(), "data": {**spec.data.model_dump(), "most_rows": 7}, "steps": 1})
    (table,) = [event for event in train(fewer, workspace.run("0001"), workspace) if isinstance(event, Table) and event.name == "rows"]
    assert table.rows[0] == ["learnt from", 7] and table.rows[1][1] > 0
