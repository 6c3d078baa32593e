"""The search over a merge's settings: it finds a planted best, keeps a front, and says when there is nothing to search."""

from collections.abc import Iterator
from typing import Any

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.method import discover, knobs_of
from workbench.core.spec import MergeSpec
from workbench.jobs.scoring import Score
from workbench.jobs.searching import GRID, WALKS, Search, Try, moved, search, searched, spread
from workbench.jobs.tasted import BASE

discover()


class Planted:
    """In place of models: the loss is a bowl over two knobs. The first task was learnt by a tuned model, the second was known."""

    tasks = ["new", "old"]
    labels = ["tuned"]
    scores = {BASE: [Score(4.0), Score(0.1)], "tuned": [Score(0.1), Score(2.0)]}

    def __init__(self, scale: float, deeper: float):
        self.best = scale, deeper
        self.asked: list[tuple[float, float]] = []

    def losses(self, spec: MergeSpec) -> list[float]:
        self.asked.append((spec.merge.scale, spec.merge.deeper))
        new = (spec.merge.scale - self.best[0]) ** 2 + (spec.merge.deeper - self.best[1]) ** 2
        return [new, 0.01 * spec.merge.scale]

    def taste(self, spec: MergeSpec) -> Iterator[Any]:
        raise AssertionError("the answers are not wanted here")


def spec_of(method: str = "task_arithmetic", **knobs: Any) -> MergeSpec:
    return MergeSpec.parse({"models": [{"model": "run:0001"}], "merge": {"method": method, **knobs}})


def last(planted: Planted, spec: MergeSpec) -> Search:
    return list(search(planted, spec))[-1]  # type: ignore[arg-type]


@pytest.mark.parametrize("best", [(0.4, 0.6), (0.9, 0.2), (0.3, 0.5)])
def test_it_comes_near_to_the_best(best: tuple[float, float]) -> None:
    planted = Planted(*best)
    found = last(planted, spec_of())
    assert found.best.knobs == pytest.approx({"scale": best[0], "deeper": best[1]}, abs=0.06)
    assert len(planted.asked) == len(found.tries) == len(set(planted.asked)) <= found.most == GRID**2 + 4 * WALKS


def test_it_tells_of_every_try() -> None:
    counts = [len(found.tries) for found in search(Planted(0.5, 0.5), spec_of())]  # type: ignore[arg-type]
    assert counts == list(range(1, len(counts) + 1))


def test_the_sides_are_what_was_learnt_and_what_was_known() -> None:
    first = next(iter(search(Planted(0.0, 0.0), spec_of()))).tries[0]  # type: ignore[arg-type]
    assert first == Try({"scale": 0.2, "deeper": 0.2}, pytest.approx(0.08), pytest.approx(0.002), pytest.approx(0.041))


def test_the_front_holds_what_nothing_beats_on_both_sides() -> None:
    sides = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0), (4.0, 1.0), (5.0, 2.0)]
    found = Search(9, [Try({}, learnt, known, 0.0) for learnt, known in sides])
    assert [(one.learnt, one.known) for one in found.front()] == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]


def test_what_varies_by_depth_stays_as_it_is() -> None:
    assert [knob.name for knob in searched(spec_of(scale=[0.2, 1.0]))] == ["deeper"]


def test_a_method_without_numbers_cannot_be_searched() -> None:
    with pytest.raises(WorkbenchError, match="has no number"):
        last(Planted(0, 0), spec_of("linear"))


def test_values_stay_within_the_range_and_never_at_an_open_end() -> None:
    knobs = {knob.name: knob for knob in knobs_of(type(spec_of("ties").merge))}
    assert spread(knobs["density"]) == [0.2, 0.4, 0.6, 0.8, 1.0] == spread(knobs["scale"])
    assert moved(knobs["density"], 0.4, -0.5) == pytest.approx(0.3)


def test_without_rows_there_is_nothing_to_search_by() -> None:
    planted = Planted(0.5, 0.5)
    planted.tasks = []
    with pytest.raises(WorkbenchError, match="no rows to search by"):
        last(planted, spec_of())
