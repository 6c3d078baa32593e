"""CoBa's weights: its formulas by hand, slow tasks more while all learn, those that rise again less, and nothing from an absent task."""

import math

import pytest
import torch

from workbench.materials.convergence import Convergence, slope


def fed(*tasks: list[float | None], warm_up: int = 0, window: int = 200) -> Convergence:
    found = Convergence(len(tasks), window, warm_up)
    for losses in zip(*tasks, strict=True):
        found.see(losses)
    return found


def falling(by: float, steps: int = 30) -> list[float]:
    return [2 * (1 - by * step) for step in range(steps)]


def softmax(values: list[float]) -> list[float]:
    return torch.tensor(values, dtype=torch.float64).softmax(0).tolist()


def test_a_slope_is_the_one_of_least_squares() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    design = torch.stack([torch.arange(5.0), torch.ones(5)], 1).double()
    expected = torch.linalg.lstsq(design, torch.tensor(values).double()[:, None]).solution[0].item()
    assert slope(values) == pytest.approx(expected) and slope([2.0]) == slope([]) == 0
    assert slope([1.0, 0.5]) == pytest.approx(-0.5)


def test_in_the_warm_up_all_weigh_alike() -> None:
    for steps in (1, 50, 99):
        assert fed(falling(0.01, steps), falling(0.001, steps), warm_up=100).weights() == [0.5, 0.5]
    assert fed(falling(0.005, 100), falling(0.001, 100), warm_up=100).weights() != [0.5, 0.5]


def test_two_steps_by_hand() -> None:
    """Losses 2 → 1 and 4 → 3, as shares 1 → 0.5 and 1 → 0.75, have the slopes −0.5 and −0.25."""
    found = fed([2.0, 1.0], [4.0, 3.0])
    assert found.slopes == [[-0.5], [-0.25]] and found.trust() == 1
    relative = softmax([2 * -0.5 / 0.75, 2 * -0.25 / 0.75])
    assert found.weights() == pytest.approx(softmax([2 * value for value in relative]))


def test_a_loss_that_falls_evenly_is_trusted_from_its_second_value_on() -> None:
    for steps in (2, 3, 30):
        assert fed(falling(0.01, steps), falling(0.001, steps)).trust() == pytest.approx(1)


def test_when_the_highest_turns_the_other_half_of_the_formula_counts() -> None:
    one, other = [2.0, 1.8, 1.6, 1.4, 1.5, 1.9], [2.0, 1.9, 1.8, 1.7, 1.6, 1.5]
    found = fed(one, other, window=4)
    slopes = [[slope([value / 2 for value in task[max(0, end - 3) : end + 1]]) for end in range(6)][-4:] for task in (one, other)]
    highest = [max(pair) / 2 for pair in zip(one, other, strict=True)]
    trends = [slope(highest[max(0, end - 3) : end + 1]) for end in range(6)][-4:]
    trust = 4 * softmax([-5 * 4 * trend / sum(map(abs, trends)) for trend in trends])[-1]
    assert found.trust() == pytest.approx(trust) and trust < 0.1
    relative = softmax([2 * own[-1] / sum(abs(each[-1]) for each in slopes) for own in slopes])
    absolute = softmax([-4 * own[-1] / sum(map(abs, own)) for own in slopes])
    mixed = [2 * (trust * first + (1 - trust) * second) for first, second in zip(relative, absolute, strict=True)]
    assert found.weights() == pytest.approx(softmax(mixed))


def test_while_all_learn_the_slowest_weighs_most() -> None:
    weights = fed(falling(0.02), falling(0.001), falling(0.01)).weights()
    assert weights[1] > weights[2] > weights[0] and sum(weights) == pytest.approx(1)


def test_a_task_that_rises_again_weighs_less_than_one_that_still_falls() -> None:
    rises = [*falling(0.02, 40), *(0.44 + 0.05 * step for step in range(40))]
    weights = fed(rises, falling(0.01, 80), window=30).weights()
    assert weights[0] < weights[1]


def test_the_scale_of_a_loss_and_the_order_of_the_tasks_do_not_count() -> None:
    one, other, third = falling(0.02), falling(0.001), falling(0.01)
    weights = fed(one, other, third).weights()
    assert fed([7 * loss for loss in one], other, third).weights() == pytest.approx(weights)
    assert fed(third, one, other).weights() == pytest.approx([weights[2], weights[0], weights[1]])


def test_no_task_is_given_up() -> None:
    """Where one rises evenly by four times as much as each of the others falls, the formula would leave those less than the floor."""
    relative = softmax([5 * 0.04 / 0.08, *[5 * -0.01 / 0.08] * 4])
    assert softmax([5 * share for share in relative])[1] < 0.1 / 5
    weights = fed([2 * (1 + 0.04 * step) for step in range(30)], *[falling(0.01)] * 4).weights()
    bare = [softmax([5 * share for share in relative])[0], *[0.1 / 5] * 4]
    assert weights == pytest.approx([share / sum(bare) for share in bare]) and sum(weights) == pytest.approx(1)


def test_alike_tasks_weigh_alike_even_where_nothing_moves() -> None:
    assert fed(falling(0.01), falling(0.01)).weights() == pytest.approx([0.5, 0.5])
    assert fed([2.0] * 5, [3.0] * 5).weights() == pytest.approx([0.5, 0.5])


def test_an_absent_task_stays_as_it_was_and_a_loss_of_zero_is_one() -> None:
    assert fed([2.0, None, 1.0], falling(0.01, 3)).losses[0] == [1.0, 1.0, 0.5]
    assert fed([2.0, 1.0, 0.0], falling(0.01, 3)).losses[0] == [1.0, 0.5, 0.0]
    late = fed([None, None, 4.0, 3.0], falling(0.01, 4), falling(0.01, 4))
    assert late.losses[0] == [1.0, 0.75]
    never = fed([None] * 30, falling(0.02), falling(0.001)).weights()
    assert never[0] == pytest.approx(1 / 3) and never[2] > never[1] and sum(never) == pytest.approx(1)
    assert all(math.isfinite(weight) for weight in fed([0.0, 0.0, 1.0], falling(0.01, 3)).weights())


def test_it_goes_on_from_its_state() -> None:
    one, other = falling(0.02, 20), falling(0.01, 20)
    whole = fed(one, other, window=8)
    half = fed(one[:9], other[:9], window=8)
    again = Convergence(2, 8, 0)
    again.load_state({name: values.clone() for name, values in half.state().items()})
    for losses in zip(one[9:], other[9:], strict=True):
        again.see(losses)
    assert again == whole and again.weights() == whole.weights() and len(whole.losses[0]) == 8
    fresh = fed([None], [None])
    fresh.load_state(fresh.state())
    assert fresh == fed([None], [None])
