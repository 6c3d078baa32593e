"""Logistic regression that leaves weights at 0: the conditions of its minimum hold, and shuffled rows foretell nothing."""

import pytest
import torch
from torch import Tensor

from workbench.materials.logistic import area, foretold, sparse_logistic


def rows(count: int = 60, width: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The first two features decide, with luck."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=draw, dtype=torch.float64) + 3
    score = 2 * (features[:, 0] - features[:, 1]) + torch.randn(count, generator=draw, dtype=torch.float64)
    return features, score > 0


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_conditions_of_the_minimum_hold(strength: float) -> None:
    """The slope of the loss is −sign(w) where a weight is not 0, between −1 and 1 where it is, and 0 for the constant."""
    features, positive = rows()
    weights, constant = sparse_logistic(features, positive, strength)
    sign = 2.0 * positive.double() - 1
    pull = -strength * sign * torch.sigmoid(-sign * (features @ weights + constant))
    slope = features.T @ pull
    used = weights != 0
    assert 2 <= int(used.sum()) < 20
    assert torch.allclose(slope[used], -weights[used].sign(), atol=2e-3)
    assert float(slope[~used].abs().max()) <= 1 + 2e-3 and abs(float(pull.sum())) < 2e-3


def test_it_finds_what_decides() -> None:
    features, positive = rows()
    weights, _ = sparse_logistic(features, positive, 0.3)
    assert weights[0] > 0 > weights[1] and weights[:2].abs().min() > weights[2:].abs().max()


def test_a_penalty_that_is_too_high_leaves_the_constant_alone() -> None:
    features, positive = rows()
    weights, constant = sparse_logistic(features, positive, 1e-4)
    assert not weights.any()
    share = float(positive.double().mean())
    assert constant == pytest.approx(torch.logit(torch.tensor(share, dtype=torch.float64)).item(), abs=1e-3)


def test_rows_are_foretold_by_others_and_not_if_their_kinds_are_shuffled() -> None:
    features, positive = rows(100)
    assert area(foretold(features, positive), positive) > 0.85
    draw = torch.Generator().manual_seed(3)
    found = []
    for _ in range(6):
        shuffled = positive[torch.randperm(100, generator=draw)]
        found.append(area(foretold(features, shuffled), shuffled))
    assert abs(sum(found) / 6 - 0.5) < 0.1


def test_the_area_is_how_often_a_positive_row_scores_higher() -> None:
    scores, positive = torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor([True, True, False, False])
    assert area(scores, positive) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
