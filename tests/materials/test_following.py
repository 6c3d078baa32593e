"""Instruction-following difficulty: 1 where the question changes nothing, below it where it helps, in both forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.materials.following import Ratio, difficulty

RATIOS: list[Ratio] = ["perplexities", "losses"]
NATS = st.floats(0.125, 64, width=32)


def one(asked: list[float], alone: list[float], ratio: Ratio) -> float:
    return difficulty(torch.tensor([asked]), torch.tensor([alone]), ratio)[0]


def test_worked_examples() -> None:
    """Two tokens at 1 nat each after the question, three at 2 nats each alone."""
    assert math.isclose(one([2, 2], [6, 3], "perplexities"), math.exp(-1)) and one([2, 2], [6, 3], "losses") == 0.5


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_question_that_says_nothing_gives_1(ratio: Ratio) -> None:
    assert one([7, 3], [7, 3], ratio) == 1


@pytest.mark.parametrize("ratio", RATIOS)
@given(asked=NATS, alone=NATS, learnt=st.integers(1, 50))
def test_it_lies_below_1_where_the_question_helps(ratio: Ratio, asked: float, alone: float, learnt: int) -> None:
    assert (one([asked, learnt], [alone, learnt], ratio) < 1) == (asked / learnt < alone / learnt)


def test_the_two_forms_rank_differently() -> None:
    """Of an answer that costs little anyway the same share of it is a smaller difference."""
    rows = torch.tensor([[1.0, 10], [8.0, 10]]), torch.tensor([[4.0, 10], [16.0, 10]])
    orders = {ratio: sorted(range(2), key=lambda row: difficulty(*rows, ratio)[row]) for ratio in RATIOS}
    assert orders == {"perplexities": [1, 0], "losses": [0, 1]}


@pytest.mark.parametrize("ratio", RATIOS)
def test_there_is_none_where_nothing_is_learnt_or_the_readings_are_of_other_tokens(ratio: Ratio) -> None:
    none = [([math.nan, 0], [3, 2]), ([3, 2], [math.nan, 0]), ([3, 10], [3, 12]), ([math.inf, 2], [math.inf, 2]), ([math.inf, 2], [3, 2])]
    assert all(math.isnan(one(asked, alone, ratio)) for asked, alone in none)
    assert math.isfinite(one([3, 10], [3, 9], ratio)), "the first token of a plain text has none before it"
    assert math.isnan(one([0, 2], [0, 2], "losses")) and one([9000, 2], [1, 2], ratio) > 1
