"""What earlier runs held beside their estimate: the middle of the newest, of the same base, and no item where it is less than none."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.calibration import RUNS, Overhead, calibrated, overhead
from workbench.jobs.estimate import estimate


class Kept:
    """Runs on record, newest first: (spec, memory in GB at each step, status)."""

    def __init__(self, *runs: tuple[dict[str, Any], list[float], str]):
        self.kept = runs

    def runs(self, kind: str | None = None) -> list[Any]:
        assert kind == "train"
        return [
            SimpleNamespace(id=str(place), spec=spec, status=status, metrics={"memory_gb": (0, 0)} if held else {})
            for place, (spec, held, status) in enumerate(self.kept)
        ]

    def series(self, run: str, name: str) -> tuple[list[int], list[float]]:
        held = self.kept[int(run)][1]
        return list(range(len(held))), held


@pytest.fixture
def spec(pico_folder: Path) -> TrainSpec:
    return TrainSpec(model=str(pico_folder))


@pytest.fixture
def told(spec: TrainSpec, workspace: Workspace) -> float:
    """What the estimate says of the spec, in GB."""
    return estimate(spec, workspace).bytes / 1e9


def test_the_middle_of_the_newest_runs_at_their_fullest(spec: TrainSpec, told: float, workspace: Workspace) -> None:
    plain = spec.model_dump(mode="json")
    kept = Kept(*((plain, [told, told + beside, told], "finished") for beside in (0.5, 0.1, 0.3)))
    assert overhead(kept, spec.model, workspace) == Overhead(pytest.approx(0.3e9, rel=1e-6), 3)
    many = Kept(*((plain, [told + 0.2], "finished") for _ in range(RUNS)), *((plain, [told + 9], "finished") for _ in range(RUNS + 5)))
    assert overhead(many, spec.model, workspace) == Overhead(pytest.approx(0.2e9, rel=1e-6), RUNS)


def test_other_bases_unfinished_runs_and_those_that_cannot_be_estimated_do_not_count(
    spec: TrainSpec, told: float, workspace: Workspace
) -> None:
    plain = spec.model_dump(mode="json")
    gone = plain | {"model": str(spec.model), "adapter": {"method": "no_such"}}
    kept = Kept(
        (plain | {"model": "pocket"}, [told + 5], "finished"), (plain, [told + 5], "failed"), (plain, [], "finished"),
        (gone, [told + 5], "finished"), (plain, [told + 0.1], "finished"),
    )  # fmt: skip
    assert overhead(kept, spec.model, workspace) == Overhead(pytest.approx(0.1e9, rel=1e-6), 1)
    assert overhead(Kept(), spec.model, workspace) is None
    assert overhead(Kept((plain, [told / 2], "finished")), spec.model, workspace) is None, "less than nothing is no item"


def test_it_stands_among_the_items_with_how_many_runs_it_is_from(spec: TrainSpec, workspace: Workspace) -> None:
    found = estimate(spec, workspace)
    more = calibrated(found, Overhead(1000, 3))
    assert more.bytes == found.bytes + 1000 and more.memory[-1] == ("program and libraries, as in 3 earlier runs", 1000)
    assert calibrated(found, None) is found and "1 earlier run" in calibrated(found, Overhead(1, 1)).memory[-1][0]
