"""The guard of every update (arXiv:2603.13552): how much of a step is kept, and that a capped step does not know its spike."""

import math

import pytest

from workbench.methods.updates.adamw import AdamW

READ = {"step_ratio": 8.0, "step_ratio_refined": 4.0, "step_ratio_q99": 2.0, "step_kl": 0.2}


@pytest.mark.parametrize(
    ("guard", "kept"),
    [("monitor", 1.0), ("cap", 1 / 8), ("refined cap", 1 / 4), ("quantile", 1 / 2), ("KL cap", 0.5)],
)
def test_each_guard_keeps_the_share_that_is_within_its_bound(guard: str, kept: float) -> None:
    assert AdamW(guard=guard).scale(READ) == pytest.approx(kept)
    safe = {name: value / 1000 for name, value in READ.items()}
    assert AdamW(guard=guard).scale(safe) == 1


def test_the_quantile_has_a_ceiling_for_the_worst_token() -> None:
    assert AdamW(guard="quantile").scale({**READ, "step_ratio": 40.0}) == pytest.approx(0.1)


@pytest.mark.parametrize("guard", ["cap", "refined cap", "quantile", "KL cap"])
def test_a_step_that_cannot_be_measured_is_not_taken_and_one_that_moves_nothing_is(guard: str) -> None:
    assert AdamW(guard=guard).scale(dict.fromkeys(READ, math.nan)) == 0
    assert AdamW(guard=guard).scale(dict.fromkeys(READ, math.inf)) == 0
    assert AdamW(guard=guard).scale(dict.fromkeys(READ, 0.0)) == 1


def test_the_bound_moves_the_cap() -> None:
    assert AdamW(guard="cap", bound=0.5).scale(READ) == pytest.approx(1 / 16)
    assert AdamW(guard="KL cap", kl_bound=0.0125).scale(READ) == pytest.approx(0.25)
