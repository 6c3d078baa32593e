"""PWCE (arXiv:2604.13488): its own weights have mean 1, equal tokens weigh 1, and an outlier is held."""

import pytest
import torch

from workbench.methods.contracts import TokenStats
from workbench.methods.losses.perplexity_weighted import PerplexityWeighted

MASK = torch.tensor([1.0, 1.0, 1.0, 0.0])


def extra(logp: list[float], **knobs: float) -> torch.Tensor:
    """w: what is added to cross-entropy's 1, for λ = 1."""
    return PerplexityWeighted(**knobs).weights(TokenStats(torch.tensor(logp), MASK)) - 1


def test_the_mean_over_learnt_tokens_is_one() -> None:
    assert (extra([-0.1, -2.0, -4.0, -9.0]) * MASK).sum().item() == pytest.approx(3, rel=1e-5)


def test_a_case_by_hand() -> None:
    # perplexities 1, 2, 3 have mean 2, so 1 + u is 1.5, 2, 2.5 with mean 2
    logp = [-0.0, -0.693147, -1.098612, -5.0]
    assert extra(logp)[:3].tolist() == pytest.approx([0.75, 1.0, 1.25], rel=1e-5)


def test_equal_tokens_and_no_slope_weigh_one() -> None:
    assert extra([-2.0, -2.0, -2.0, -1.0])[:3].tolist() == pytest.approx([1, 1, 1])
    assert extra([-0.1, -2.0, -4.0, -1.0], slope=0.0)[:3].tolist() == pytest.approx([1, 1, 1])


def test_an_outlier_is_believed_up_to_the_clip() -> None:
    held = extra([-0.1, -0.1, -40.0, -1.0], clip=1000.0)
    assert held.tolist() == pytest.approx(extra([-0.1, -0.1, -6.907755, -1.0], clip=1e9).tolist(), rel=1e-4)
