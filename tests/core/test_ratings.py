"""Ratings from votes: Elo moves points and makes none, strengths do not know the order of the votes, intervals are Wilson's."""

import math
import random

import pytest

from workbench.core.ratings import Outcome, Vote, elo, ratings, strengths, wilson


def vote(models: str, winner: str = "", outcome: Outcome = "best") -> Vote:
    """`vote("ab", "a")`: a is best; without a winner say how it ended."""
    return Vote("0001", "Why?", {model: f"model {model}" for model in models}, outcome, winner)


@pytest.fixture
def many() -> list[Vote]:
    """Votes among two to four of five models; the earlier letter tends to win, some are ties."""
    chance = random.Random(0)
    found = []
    for _ in range(200):
        shown = chance.sample("abcde", chance.choice([2, 3, 4]))
        best = min(shown) if chance.random() < 0.6 else chance.choice(shown)
        found.append(vote("".join(shown), best) if chance.random() < 0.8 else vote("".join(shown), outcome="tie"))
    return found


def test_elo_of_the_first_votes_by_hand() -> None:
    """Equals: half of K moves. Then the winner was expected to win with 1 / (1 + 10^(−32/400)) = 0.54592."""
    assert elo([vote("ab", "a")]) == {"a": 1016, "b": 984}
    again = elo([vote("ab", "a"), vote("ab", "a")])
    assert again["a"] == pytest.approx(1016 + 32 * (1 - 0.545922), abs=1e-3)
    assert elo([vote("ab", outcome="tie")]) == {"a": 1000, "b": 1000}
    assert elo([vote("ab", "a"), vote("ab", outcome="bad")])["a"] == pytest.approx(1016 - 32 * 0.045922, abs=1e-3)


def test_elo_among_four_moves_no_more_than_between_two() -> None:
    assert elo([vote("abcd", "a")]) == pytest.approx({"a": 1016, "b": 1000 - 16 / 3, "c": 1000 - 16 / 3, "d": 1000 - 16 / 3})


def test_elo_makes_no_points_and_knows_the_order(many: list[Vote]) -> None:
    points = elo(many)
    assert math.fsum(points.values()) == pytest.approx(1000 * len(points))
    assert elo(many[::-1]) != points


def test_strengths_are_the_log_odds_where_there_are_two() -> None:
    """75 to 25 is three to one: 400 log10 3 = 190.85 points, which the prior draws together to (75.5 / 25.5)."""
    votes = [vote("ab", "a")] * 75 + [vote("ab", "b")] * 25
    found = strengths(votes, prior=1e-9)
    assert found["a"] - found["b"] == pytest.approx(190.849, abs=1e-2)
    found = strengths(votes)
    assert found["a"] - found["b"] == pytest.approx(400 * math.log10(75.5 / 25.5))


def test_strengths_are_what_explains_the_votes(many: list[Vote]) -> None:
    """At the maximum of the likelihood each model is expected to win as often as it did (the prior's vote counts as one of all)."""
    prior = 0.5
    found = {model: 10 ** ((points - 1000) / 400) for model, points in strengths(many, prior).items()}
    for model, strength in found.items():
        got = prior + math.fsum(each.shares().get(model, 0.0) for each in many)
        expected = prior * len(found) * strength / math.fsum(found.values())
        expected += math.fsum(strength / math.fsum(found[one] for one in each.models) for each in many if model in each.models)
        assert got == pytest.approx(expected, rel=1e-7)


def test_strengths_do_not_know_the_order(many: list[Vote]) -> None:
    shuffled = random.Random(1).sample(many, len(many))
    assert strengths(shuffled) == strengths(many)
    assert math.fsum(strengths(many).values()) == pytest.approx(5000)


def test_one_more_win_is_never_worse(many: list[Vote]) -> None:
    before, after = (strengths(votes) for votes in (many, [*many, vote("ce", "e")]))
    assert after["e"] > before["e"] and after["c"] < before["c"]


def test_the_unbeaten_and_those_who_never_met_stay_finite() -> None:
    found = strengths([vote("ab", "a")] * 1000 + [vote("cd", "c")])
    assert all(math.isfinite(points) for points in found.values())
    assert found["a"] > found["c"] > found["d"] > found["b"]


def test_wilson_by_published_numbers() -> None:
    """8 of 10: 0.4902 to 0.9433. None of 5 ends at z²/(5 + z²) = 0.4345, and begins at nothing."""
    assert wilson(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    assert wilson(0, 5) == pytest.approx((0.0, 0.43448), abs=1e-5)
    low, high = wilson(5, 5)
    assert (low, high) == pytest.approx((1 - 0.43448, 1.0), abs=1e-5) and high <= 1


def test_the_table_counts_votes_and_says_what_even_would_be() -> None:
    found = {
        line.model: line for line in ratings([vote("ab", "a"), vote("abcd", "a"), vote("ab", outcome="tie"), vote("ab", outcome="bad")])
    }
    assert next(iter(found)) == "a", "the strongest stands first"
    a, d = found["a"], found["d"]
    assert (a.votes, a.won, a.shared, a.share) == (4, 2, 2, 0.75)
    assert a.even == pytest.approx((3 * 0.5 + 0.25) / 4) and d.even == 0.25
    assert a.low < a.share < a.high


def test_another_reference_is_another_model_and_the_newest_name_stands() -> None:
    votes = [Vote("0001", "", {"run:0001": "poems", "pocket": "pocket"}, "best", "run:0001")]
    votes.append(Vote("0002", "", {"run:0001": "verses", "model:poems": "poems"}, "best", "model:poems"))
    assert {line.model: line.label for line in ratings(votes)} == {"run:0001": "verses", "pocket": "pocket", "model:poems": "poems"}


def test_no_votes_no_ratings() -> None:
    assert ratings([]) == []
