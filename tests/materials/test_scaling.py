"""The rectified scaling law and accept-then-stop: exact recovery, the plain law as a case, monotone, and lines worked by hand."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from workbench.core.errors import WorkbenchError
from workbench.materials.scaling import Law, Line, accept_then_stop, fit

SIZES = [200 * 2**place for place in range(14)]


@pytest.mark.parametrize("power", [0.35, 0.5, 0.8])
@pytest.mark.parametrize("bend", [800, 6400])
@pytest.mark.parametrize(("start", "floor"), [(4.0, 0.5), (2.5, 1.2)])
def test_a_curve_without_noise_is_found_to_a_percent(power: float, bend: float, start: float, floor: float) -> None:
    true = Law(scale=(start - floor) * bend**power, seen=bend**power, power=power, floor=floor)
    found = fit(SIZES, [true(size) for size in SIZES])
    for name in ("scale", "seen", "power", "floor"):
        assert vars(found)[name] == pytest.approx(vars(true)[name], rel=0.01), name
    assert found.error < 1e-6 and found(10 * SIZES[-1]) == pytest.approx(true(10 * SIZES[-1]), rel=1e-3)


@pytest.mark.parametrize("power", [0.2, 0.5])
def test_with_nothing_seen_it_is_the_plain_law(power: float) -> None:
    true = Law(scale=9.0, seen=0.0, power=power, floor=0.8)
    assert true(100) == pytest.approx(9.0 / 100**power + 0.8)
    losses = [true(size) for size in SIZES]
    plain, whole = fit(SIZES, losses, plain=True), fit(SIZES, losses)
    assert plain.seen == 0 and plain.power == pytest.approx(power, rel=0.01) and plain.floor == pytest.approx(0.8, rel=0.01)
    assert all(whole(size) == pytest.approx(plain(size), rel=1e-3) for size in SIZES)


def test_where_a_model_knows_much_the_plain_law_does_not_fit() -> None:
    true = Law(scale=3000.0, seen=1000.0, power=0.8, floor=0.6)
    losses = [true(size) for size in SIZES]
    assert fit(SIZES, losses).error < 1e-6 < 0.01 < fit(SIZES, losses, plain=True).error


@settings(max_examples=8, deadline=None)
@given(losses=some.lists(some.floats(0.1, 10), min_size=4, max_size=8))
def test_whatever_was_measured_the_law_falls_and_stays_above_its_floor(losses: list[float]) -> None:
    found = fit(SIZES[: len(losses)], losses)
    values = [found(size) for size in (1, 10, *SIZES, 10**9)]
    assert all(math.isfinite(value) and value >= found.floor > 0 for value in values)
    assert all(more <= less for less, more in itertools.pairwise(values))


def test_one_wild_point_moves_the_law_little() -> None:
    true = Law(scale=40.0, seen=10.0, power=0.45, floor=0.7)
    losses = [true(size) for size in SIZES]
    wild = [loss * (1.5 if place == 6 else 1) for place, loss in enumerate(losses)]
    assert fit(SIZES, wild)(SIZES[-1] * 4) == pytest.approx(true(SIZES[-1] * 4), rel=0.05)


def test_the_order_of_the_points_does_not_count() -> None:
    true = Law(scale=40.0, seen=10.0, power=0.45, floor=0.7)
    points = [(size, true(size) * (1 + 0.01 * (-1) ** place)) for place, size in enumerate(SIZES)]
    forth, back = (fit(*zip(*order, strict=True)) for order in (points, points[::-1]))
    assert forth == back


@pytest.mark.parametrize("sizes", [[1, 2, 3], [1, 2, 3, 3], [0, 1, 2, 3]])
def test_too_few_or_wrong_sizes_are_a_sentence(sizes: list[int]) -> None:
    with pytest.raises(WorkbenchError, match=r"four numbers|different sizes"):
        fit(sizes, [1.0] * len(sizes))
    with pytest.raises(WorkbenchError, match="finite losses above 0"):
        fit([1, 2, 3, 4], [1.0, 0.5, math.nan, 0.2])


# Accept-then-stop.


def test_a_power_law_is_taken_whole() -> None:
    line = accept_then_stop(SIZES, [5 * size**-0.25 for size in SIZES])
    assert line.used == len(SIZES) and line.slope == pytest.approx(-0.25) and math.exp(line.intercept) == pytest.approx(5)
    assert line(10**7) == pytest.approx(5 * (10**7) ** -0.25)


def test_it_stops_at_the_first_that_is_far_from_the_line() -> None:
    """ln L over ln D by hand, in powers of e: the three largest at 0.9, 2.1, 3.0 above 6, 5, 4; then flat."""
    logs = {6: 1.0, 5: 2.1, 4: 3.0}  # slope −1, intercept 7.0333, gaps −0.0333, 0.0667, −0.0333: spread 0.0471

    def of(more: dict[int, float]) -> Line:
        points = {**logs, **more}
        return accept_then_stop([math.exp(x) for x in points], [math.exp(y) for y in points.values()])

    alone = of({})
    assert (alone.used, alone.slope, alone.intercept) == (3, pytest.approx(-1), pytest.approx(7 + 1 / 30))
    line_at_3, spread = 4 + 1 / 30, math.sqrt(0.02) / 3
    assert of({3: line_at_3 - 4.9 * spread}).used == 4 and of({3: line_at_3 - 5.1 * spread}).used == 3
    assert of({3: 3.1, 2: 5.0333}).used == 3, "what lies behind a break is not looked at"
    assert of({3: 3.1}) == alone


def test_three_points_or_two_are_a_line() -> None:
    assert accept_then_stop([100, 10], [0.5, 1.0])(1000) == pytest.approx(0.25)
    with pytest.raises(WorkbenchError, match="One size alone"):
        accept_then_stop([100], [1.0])
