"""The law of forgetting: made-up laws are found again, residuals are those of the runs, and nothing is foretold from too little."""

import math
from dataclasses import replace

import pytest
import torch

from workbench.core.errors import WorkbenchError
from workbench.materials.forgetting_law import FEWEST, Law, Line, Tuned, fit, line

SEEN = ((2e4, 1e7), (50.0, 3200.0))
TUNED = [(parameters, steps) for parameters in (2e4, 2e5, 1.3e6, 1e7) for steps in (50.0, 200.0, 800.0, 3200.0)]


def runs(true: Law, points: list[tuple[float, float]], off: float = 0.0) -> list[Tuned]:
    noise = torch.randn(len(points), generator=torch.Generator().manual_seed(0)).tolist()
    return [
        Tuned(parameters, steps, 1.0 + place, true(parameters, steps) * math.exp(off * error))
        for place, ((parameters, steps), error) in enumerate(zip(points, noise, strict=True))
    ]


@pytest.mark.parametrize("powers", [(0.1, 0.3), (0.35, 0.6), (0.8, 0.2)])
@pytest.mark.parametrize(("floor", "shifts"), [(1.9, (3e5, 400.0)), (0.4, (3e4, 60.0))])
def test_made_up_exponents_are_found_to_two_percent(powers: tuple[float, float], floor: float, shifts: tuple[float, float]) -> None:
    scale = 1.5 / ((1e7 + shifts[0]) ** powers[0] * (3200 + shifts[1]) ** powers[1])
    true = Law(floor, scale, shifts[0], powers[0], shifts[1], powers[1], SEEN)
    found = fit(runs(true, TUNED))
    assert found.parameters_power == pytest.approx(powers[0], rel=0.02) and found.steps_power == pytest.approx(powers[1], rel=0.02)
    assert found.error < 1e-6 and found.seen == SEEN
    assert found(1.5e7, 5000) == pytest.approx(true(1.5e7, 5000), rel=1e-3)


@pytest.fixture
def true() -> Law:
    return Law(1.2, 1e-3, 2e5, 0.25, 150.0, 0.4, SEEN)


def test_eight_runs_are_enough_where_nothing_is_off(true: Law) -> None:
    points = [TUNED[place] for place in (0, 2, 4, 7, 9, 10, 13, 15)]
    found = fit(runs(true, points))
    assert found.parameters_power == pytest.approx(true.parameters_power, rel=0.02)
    assert found.steps_power == pytest.approx(true.steps_power, rel=0.02)


def test_noise_moves_what_is_foretold_little_and_shows_in_the_residuals(true: Law) -> None:
    given = runs(true, TUNED, off=0.01)
    found = fit(given)
    assert found(1e7, 5000) == pytest.approx(true(1e7, 5000), rel=0.05) and 0.003 < found.error < 0.02
    told = [math.log(own.forgetting / found(own.parameters, own.steps)) for own in given]
    assert list(found.residuals) == pytest.approx(told, abs=1e-9)


def test_the_order_of_the_runs_does_not_count(true: Law) -> None:
    given = runs(true, TUNED, off=0.01)
    forth, back = fit(given), fit(given[::-1])
    assert forth.parameters_power == pytest.approx(back.parameters_power, rel=1e-3)
    assert list(forth.residuals) == pytest.approx(list(back.residuals)[::-1], abs=1e-6)


def test_forgetting_never_falls_with_more_of_either(true: Law) -> None:
    flat = [replace(own, forgetting=2.0 - 0.01 * place) for place, own in enumerate(runs(true, TUNED))]
    found = fit(flat)
    for one, more in (((2e4, 50), (1e7, 50)), ((2e4, 50), (2e4, 3200))):
        assert found(*one) <= found(*more) * (1 + 1e-9) and found.floor >= 0


def test_a_line_by_hand() -> None:
    losses, off = [1, 1, 1.5, 1.5, 2, 2, 0.5, 0.5], [-0.1, 0.1] * 4
    found = line([Tuned(1e4, 10, loss, 5 - 2 * loss + error) for loss, error in zip(losses, off, strict=True)])
    assert found.start == pytest.approx(5) and found.slope == pytest.approx(2) and found.error == pytest.approx(0.1)
    assert found(1.25) == pytest.approx(2.5) and list(found.residuals) == pytest.approx(off)


@pytest.mark.parametrize("fitted", [fit, line])
def test_fewer_than_eight_runs_are_refused(true: Law, fitted: object) -> None:
    assert FEWEST == 8
    with pytest.raises(WorkbenchError, match="8 or more"):
        fitted(runs(true, TUNED)[:7])  # type: ignore[operator]


@pytest.mark.parametrize("wrong", [{"forgetting": math.nan}, {"steps": 0}, {"loss": math.inf}, {"parameters": -1}])
def test_what_is_no_number_is_refused(true: Law, wrong: dict[str, float]) -> None:
    given = runs(true, TUNED)
    with pytest.raises(WorkbenchError, match="finite numbers"):
        fit([replace(given[0], **wrong), *given[1:]])


def test_runs_that_differ_in_one_thing_alone_tell_no_law(true: Law) -> None:
    with pytest.raises(WorkbenchError, match="parameters"):
        fit(runs(true, [(1e6, 100.0 * steps) for steps in range(1, 10)]))
    with pytest.raises(WorkbenchError, match="steps"):
        fit(runs(true, [(1e4 * count, 100.0 + place % 2) for place, count in enumerate(range(1, 10))]))
    with pytest.raises(WorkbenchError, match="no line"):
        line([Tuned(1e4, 10, 1, 2)] * 8)


@pytest.mark.parametrize(("parameters", "steps"), [(2.1e7, 800), (0.9e4, 800), (1e6, 6500), (1e6, 24)])
def test_nothing_is_foretold_beyond_twice_what_was_seen(true: Law, parameters: float, steps: float) -> None:
    assert true(2e7, 6400) > true(1e4, 25) > 0
    with pytest.raises(WorkbenchError, match="add a run"):
        true(parameters, steps)


def test_a_line_goes_no_further_either() -> None:
    own = Line(5, 2, (0.5, 2.0))
    assert own(0.25) == 4.5 and own(4.0) == -3
    for loss in (0.2, 4.1):
        with pytest.raises(WorkbenchError, match="between"):
            own(loss)
