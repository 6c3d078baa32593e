"""What a run's numbers say of its speed: worked by hand, and refused wherever the steps train nothing."""

import math
from collections.abc import Mapping

import pytest

from workbench.core.performance import Performance, percent, performance, rate, told

Lines = Mapping[str, Mapping[int, float]]


def found(lines: Lines, step: int = 0) -> Performance:
    """Of a run that measured these lines, asked as the store is asked."""
    ends = {name: (min(line.items())[1], max(line.items())[1]) for name, line in lines.items()}

    def asked(names: list[str], first: int) -> dict[str, tuple[list[int], list[float]]]:
        rest = {name: {at: value for at, value in lines[name].items() if at >= first} for name in names}  # a KeyError if there is none
        return {name: (list(line), list(line.values())) for name, line in rest.items()}

    return performance(ends, step or max(max(line) for line in lines.values()), asked)


def run(speeds: Mapping[int, float], norms: Mapping[int, float] | None = None, moved: float = 1.0, **more: Mapping[int, float]) -> Lines:
    return {"tokens_per_s": speeds, "tensors_moved": {max(speeds): moved}, **({"grad_norm": norms} if norms else {}), **more}


def test_the_speed_is_the_median_without_the_first_step() -> None:
    told_of = found(run({1: 5.0, 2: 100.0, 3: 300.0, 4: 120.0}))
    assert told_of.tokens_per_s == 120.0 and told_of.steps == (2, 4) and not told_of.refused and not told_of.warns


def test_of_a_long_run_the_newest_hundred_steps_count() -> None:
    speeds = {step: 1.0 if step <= 100 else 2.0 for step in range(1, 201)}
    assert found(run(speeds)).tokens_per_s == 2.0 and found(run(speeds)).steps == (101, 200)


def test_one_step_has_no_speed_yet() -> None:
    only = found(run({1: 90.0}))
    assert "second step" in only.refused and not only.idle and math.isnan(only.tokens_per_s)


@pytest.mark.parametrize("norm, says", [(0.0, "zero"), (math.nan, "not a finite number"), (math.inf, "not a finite number")])
def test_steps_without_a_gradient_have_no_speed(norm: float, says: str) -> None:
    speeds = dict.fromkeys(range(1, 21), 46000.0)
    broken = found(run(speeds, dict.fromkeys(speeds, norm)))
    assert says in broken.refused and "19 of the last 19 steps" in broken.refused and broken.idle
    assert math.isnan(broken.tokens_per_s) and "46" not in " ".join(told(broken)), "the figure is nowhere"


def test_a_step_that_was_left_out_now_and_then_does_not_count() -> None:
    """Loss scaling of float16 leaves out a step when its factor was too high; one in ten is the most."""
    speeds = {step: float(step) for step in range(1, 22)}
    norms = {step: math.inf if step in (20, 21) else 1.0 for step in speeds}
    assert found(run(speeds, norms)).tokens_per_s == 10.5, "the median of 2 to 19"
    assert found(run(speeds, {**norms, 12: 0.0})).refused, "3 of 20"
    two = found(run({2: 10.0, 3: 20.0, 4: 900.0}, {2: 1.0, 3: 1.0, 4: math.nan}))
    assert two.refused, "1 of 3"


def test_the_first_step_may_be_without_a_gradient() -> None:
    """B of a LoRA starts at zero, so what is asked begins with step 2."""
    assert found(run({1: 1.0, 2: 50.0}, {1: 0.0, 2: 1.0})).tokens_per_s == 50.0


def test_steps_that_move_nothing_have_no_speed() -> None:
    speeds = dict.fromkeys(range(1, 23), 46000.0)
    still = found({**run(speeds, dict.fromkeys(speeds, 1.0)), "tensors_moved": {2: 1.0, 12: 1.0, 22: 0.0}})
    assert "step 22 changed nothing" in still.refused and still.idle and math.isnan(still.tokens_per_s)
    again = found({**run(speeds), "tensors_moved": {2: 0.0, 12: 0.0, 22: 1.0}})
    assert again.tokens_per_s == 46_000.0, "the newest look says how it stands"


def test_where_nobody_looked_nothing_is_told() -> None:
    old = found({"tokens_per_s": {1: 1.0, 2: 2.0}, "grad_norm": {1: 1.0, 2: 1.0}})
    assert "did not check" in old.refused and not old.idle and math.isnan(old.tokens_per_s)


def test_a_step_that_moves_a_part_is_told_with_its_share() -> None:
    speeds = dict.fromkeys(range(1, 23), 10.0)
    some = found({**run(speeds), "tensors_moved": {2: 1.0, 12: 0.7, 22: 0.72}})
    assert some.tokens_per_s == 10.0 and "72 % of the trained tensors" in some.warns and some.warns in told(some)
    assert not found(run(speeds, moved=0.995)).warns


def test_places_of_a_batch_are_shares_of_all_of_them() -> None:
    """40 % padding and half of the rest learnt, then 20 % and a quarter: learnt 0.3 and 0.2, padding 0.4 and 0.2."""
    lines = run({2: 1.0, 3: 1.0}, padding_share={1: 0.9, 2: 0.4, 3: 0.2}, learnt_share={1: 0.9, 2: 0.5, 3: 0.25})
    places = dict(found(lines).places)
    assert list(places.values()) == pytest.approx([0.25, 0.45, 0.3]) and places["padding"] == pytest.approx(0.3)


def test_the_parts_of_a_step_are_medians_in_order() -> None:
    parts = {"step_ms/rest": {2: 1.0}, "step_ms/forward": {2: 90.0, 12: 10.0, 22: 12.0}, "step_ms/backward": {2: 8.0, 12: 28.0, 22: 27.0}}
    assert found({**run({2: 1.0, 22: 1.0}), **parts}).time == [("forward pass", 12.0), ("backward pass", 27.0), ("everything else", 1.0)]


def test_memory_that_has_no_name_is_what_is_left() -> None:
    held = {"memory_gb": {1: 1.0, 2: 3.0}, "memory_gb/weights": {2: 1.5}, "memory_gb/trained": {2: 0.25}, "memory_gb/optimizer": {2: 0.0}}
    names, sizes = zip(*found({**run({2: 1.0}), **held}).memory, strict=True)
    assert sizes == pytest.approx((1.5e9, 0.25e9, 1.25e9)) and len(set(names)) == 3, "an optimizer without a state is no part"
    paged = {**held, "memory_gb": {2: 1.0}}
    assert len(found({**run({2: 1.0}), **paged}).memory) == 2, "weights that were never touched need not be resident"
    assert found({**run({2: 1.0}), "memory_gb": {2: 1.0}}).memory == []


def test_the_arithmetic_stands_beside_what_the_machine_reaches() -> None:
    """2.5 GFLOP a token at 200 tokens/s are 0.5 TFLOP/s, a quarter of 2."""
    counted = {"gflop_per_token": {0: 2.5}, "ceiling_tflop_per_s": {0: 2.0}}
    known = found({**run({1: 1.0, 2: 200.0}), **counted})
    assert known.work == pytest.approx(5e11) and known.ceiling == pytest.approx(2e12)
    assert any(line.startswith("25 % of what this machine") and "0.5 TFLOP/s of 2 TFLOP/s" in line for line in told(known))
    assert not any("machine" in line for line in told(found(run({1: 1.0, 2: 200.0}))))
    idle = found({**run({1: 1.0, 2: 200.0}, moved=0.0), **counted})
    assert math.isnan(idle.work) and not any("machine" in line for line in told(idle))


def test_small_shares_and_rates_in_words() -> None:
    assert [percent(share) for share in (0.412, 0.004, 0.0, 1.0)] == ["41 %", "< 1 %", "0 %", "100 %"]
    assert [rate(operations) for operations in (3.14e12, 4.2e10)] == ["3.14 TFLOP/s", "42 GFLOP/s"]
