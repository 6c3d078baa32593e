"""The knapsack of a backward pass: as good as trying everything, and within its budget."""

import itertools
import random

import pytest

from workbench.materials import knapsack
from workbench.materials.knapsack import chosen


def cost(places: tuple[int, ...] | list[int], own: list[int], passing: list[int]) -> int:
    return sum(own[place] for place in places) + sum(passing[: max(places)]) if places else 0


def drawn(seed: int, scale: int = 1) -> tuple[list[float], list[int], list[int], int]:
    draw, count = random.Random(seed), 9
    own, passing = ([scale * draw.choice([0, 0, 1, 2, 5, 9]) for _ in range(count)] for _ in range(2))
    return [draw.uniform(-1, 3) for _ in range(count)], own, passing, int(draw.uniform(0, 0.8) * (sum(own) + sum(passing)))


@pytest.mark.parametrize("seed", range(40))
def test_no_other_choice_within_the_budget_is_worth_more(seed: int) -> None:
    worth, own, passing, budget = drawn(seed)
    every = [places for size in range(10) for places in itertools.combinations(range(9), size)]
    best = max(sum(worth[place] for place in places) for places in every if cost(places, own, passing) <= budget)
    found = chosen(worth, own, passing, budget)
    assert cost(found, own, passing) <= budget and sum(worth[place] for place in found) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(20))
def test_where_costs_must_be_rounded_the_budget_is_kept(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knapsack, "UNITS", 60)
    worth, own, passing, budget = drawn(seed, scale=1009)
    own, passing = [cost + 7 for cost in own], [cost + 3 for cost in passing]
    assert cost(chosen(worth, own, passing, budget), own, passing) <= budget


def test_the_way_down_is_rounded_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knapsack, "UNITS", 10)
    assert [chosen([0.0, 1.0], [0, 10], [95, 0], budget) for budget in (100, 110)] == [[], [1]]


def test_a_worked_example() -> None:
    """The last is cheap but lies deep: once its place is paid for, so is the way for the others."""
    worth, own, passing = [3.0, 4.0, 3.5, 5.0], [4, 5, 3, 1], [1, 2, 5, 0]
    found = {budget: chosen(worth, own, passing, budget) for budget in (0, 3, 4, 8, 9, 10, 11, 13, 14, 21)}
    wanted = {0: [], 3: [], 4: [0], 8: [1], 9: [3], 10: [0, 1], 11: [1, 2], 13: [2, 3], 14: [1, 3], 21: [0, 1, 2, 3]}
    assert found == wanted
    assert chosen([0.0, -1.0], [1, 1], [1, 1], 100) == [], "what is worth nothing stands still"
