"""The arithmetic of a verdict, with numbers made up here: gains, slack, the three verdicts, numbers that are none, and the sentences."""

import math

import pytest

from workbench.core.claim import Claim, Expected, Measure, Numbers, in_words, judged, training
from workbench.core.spec import parse_spec

LOSS = Measure("validation loss", ("validation_loss",))
RIGHT = Measure("right answers", ("a · right", "b · right"), unit="", more=True)
FASTER = Expected(LOSS, "new", "old", 0.1)


def losses(new: float, old: float) -> Numbers:
    return {"new": {"validation_loss": new}, "old": {"validation_loss": old}}


def claim(*expected: Expected) -> Claim:
    return Claim("merges", "linear", "", "It is so.", "P", {}, {"new": "run:new", "old": "run:old"}, expected, 60, "The demo model.")


def test_a_gain_is_positive_where_the_model_is_better() -> None:
    assert FASTER.gain(losses(0.3, 1.0)) == pytest.approx(0.7)
    shares: Numbers = {"new": {"a · right": 0.5, "b · right": 0.7}, "old": {"a · right": 0.2, "b · right": 0.2}}
    assert RIGHT.value(shares["new"]) == pytest.approx(0.6)
    assert Expected(RIGHT, "new", "old").gain(shares) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("seeds", "verdict", "holds"),
    [
        ([(0.3, 1.0), (0.5, 0.9), (0.2, 0.4)], "shows here", 3),
        ([(0.3, 1.0), (0.85, 0.9), (0.2, 0.4)], "mixed", 2),  # better, but by less than 0.1
        ([(0.3, 0.4), (0.9, 0.9), (1.2, 0.4)], "does not show here", 0),  # by exactly 0.1 is not by more
    ],
)
def test_the_verdict_is_that_of_all_seeds_of_none_or_of_some(seeds: list[tuple[float, float]], verdict: str, holds: int) -> None:
    exact = Expected(LOSS, "new", "old", 0.1 + 1e-12)
    found = judged([exact], [losses(*pair) for pair in seeds])
    assert (found.verdict, found.holds) == (verdict, holds)
    assert found.gains == (tuple(pytest.approx(old - new) for new, old in seeds),)


def test_a_seed_counts_only_where_all_that_is_expected_holds() -> None:
    both = [FASTER, Expected(LOSS, "old", "new", -0.5)]  # faster, but by no more than half a nat
    found = judged(both, [losses(0.3, 0.6), losses(0.3, 1.6), losses(0.6, 0.5)])
    assert found.holds == 1 and found.verdict == "mixed"


def test_below_zero_means_worse_by_less_than_that() -> None:
    kept = Expected(LOSS, "new", "old", -0.05)
    assert judged([kept], [losses(0.54, 0.5)]).verdict == "shows here"
    assert judged([kept], [losses(0.56, 0.5)]).verdict == "does not show here"
    assert "at most 0.05" in kept.in_words() and "more validation loss" in kept.in_words()


@pytest.mark.parametrize(("new", "old", "gain"), [(0.2, math.nan, math.inf), (math.nan, 0.2, -math.inf), (math.nan, math.inf, -math.inf)])
def test_a_model_without_a_finite_number_is_worse_than_any(new: float, old: float, gain: float) -> None:
    assert FASTER.gain(losses(new, old)) == gain
    assert FASTER.gain({"new": {"validation_loss": new}} if math.isnan(old) else losses(new, old)) == gain  # or was never measured


def test_the_sentences_have_the_verdict_the_numbers_and_their_spread() -> None:
    said = in_words(claim(FASTER), [losses(0.2, 0.6), losses(0.4, 0.6), losses(0.3, 0.6)])
    assert said[0] == "Shows here: all that is expected holds with 3 of 3 seeds."
    means = "Validation loss (nats per token): new has 0.3 and old has 0.6 on average"
    assert said[1] == f"{means}; new is better by 0.3, from 0.2 to 0.4, as expected with 3 of 3."
    assert "one case of 8" in said[2]
    worse = in_words(claim(FASTER), [losses(0.6, 0.2), losses(0.5, 0.6)])
    assert worse[0].startswith("Does not show here") and "new is worse by 0.15, from -0.1 to 0.4" in worse[1]


def test_what_has_no_number_is_said() -> None:
    said = in_words(claim(FASTER), [losses(0.2, math.nan), losses(0.4, 0.6)])
    assert "new is better by 0.2, old has no finite number with 1 of 2 seeds" in said[1]
    assert "old has no finite number with 1 of 1 seed, as expected with 1 of 1." in in_words(claim(FASTER), [losses(0.2, math.nan)])[1]


def test_a_short_training_measures_at_its_end_alone() -> None:
    spec = parse_spec(training("skill_a", 60, adapter={"method": "lora", "rank": 4}))
    assert (spec.steps, spec.evaluate_every, spec.sample_every, spec.checkpoint_every, spec.probes) == (60, 60, 60, 60, [])
