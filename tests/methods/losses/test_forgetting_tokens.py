"""Forgetting (arXiv:2508.04329): which tokens are negative, how hard each kind is pushed, and where the pushing ends."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.token_stats import Learnt
from workbench.methods.contracts import TokenStats
from workbench.methods.losses.forgetting_tokens import ForgettingTokens

SIGNS = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])


def stats(logp: Tensor, score: Tensor = SIGNS, share: float = 0.5, vocabulary: int = 1000) -> TokenStats:
    row = torch.zeros(len(score), dtype=torch.long)
    return TokenStats(logp, torch.ones(len(logp)), row=row, score=score, window=Learnt(row, row, score), share=share, vocabulary=vocabulary)


def papers_loss(logp: Tensor, forgetting: float) -> Tensor:
    return -logp[SIGNS > 0].mean() + forgetting * logp[SIGNS < 0].mean()


@pytest.mark.parametrize(("share", "forgetting"), [(0.0, 0.0), (0.5, 0.125), (1.0, 0.25)])
def test_its_gradient_is_that_of_the_papers_loss_and_forgetting_rises_from_nothing(share: float, forgetting: float) -> None:
    logp = torch.tensor([-0.1, -2.0, -4.0, -1.0, -0.5], dtype=torch.double, requires_grad=True)
    papers_loss(logp, forgetting).backward()
    assert torch.allclose(ForgettingTokens().weights(stats(logp, share=share)) / len(logp), -logp.grad)


def test_a_negative_token_is_pushed_by_lambda_over_their_number() -> None:
    weights = ForgettingTokens(most=0.4).weights(stats(torch.full((5,), -1.0), share=1.0))
    assert (weights / 5)[SIGNS < 0].tolist() == pytest.approx([-0.4 / 2] * 2)
    assert (weights / 5)[SIGNS > 0].tolist() == pytest.approx([1 / 3] * 3)


def test_no_token_is_pushed_below_chance_unless_one_wants_the_papers_form() -> None:
    chance = -math.log(1000)
    logp = torch.tensor([chance - 1, chance - 0.01, chance - 5, -1.0, chance + 0.01])
    held, free = (ForgettingTokens(bounded=bounded).weights(stats(logp)) for bounded in (True, False))
    assert held[1] == 0 and held[4] == free[4] < 0
    assert free[1] == free[4], "whoever is left pushes no harder"
    assert torch.equal(held[SIGNS > 0], free[SIGNS > 0]), "what is learnt has no bound"


def test_a_step_in_several_passes_is_the_step_in_one() -> None:
    whole = stats(torch.tensor([-0.1, -2.0, -4.0, -1.0, -0.5]))
    apart = [dataclasses.replace(whole, logp=whole.logp[part], score=whole.score[part]) for part in (slice(0, 1), slice(1, 5))]
    assert torch.equal(torch.cat([ForgettingTokens().weights(part) for part in apart]), ForgettingTokens().weights(whole))


@pytest.mark.parametrize("only", [1.0, -1.0])
def test_a_step_with_one_kind_alone_is_finite(only: float) -> None:
    learnt = stats(torch.full((3,), -1.0), torch.full((3,), only))
    assert ForgettingTokens().weights(learnt).tolist() == pytest.approx([1.0] * 3 if only > 0 else [-0.125] * 3)
    beside = dataclasses.replace(learnt, score=torch.tensor([only, only, -only]), mask=torch.tensor([1.0, 1.0, 0.0]))
    assert torch.isfinite(ForgettingTokens().weights(beside)).all(), "a token that is not learnt may be of the other kind"


@pytest.mark.parametrize(
    ("positive", "count", "expected"), [(0.7, 10, 7), (0.7, 11, 7), (0.29, 100, 29), (0.58, 50, 29), (1.0, 9, 9), (0.0, 9, 0)]
)
def test_the_positive_share_is_counted_over_all_tokens_and_exactly(positive: float, count: int, expected: int) -> None:
    judged = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    signs = ForgettingTokens(positive=positive).scores(judged)
    assert (signs == 1).sum() == expected and (signs == -1).sum() == count - expected


def test_positive_are_those_that_the_reference_finds_likelier_than_the_base() -> None:
    base, reference = torch.tensor([-1.0, -1.0, -9.0, -2.0]), torch.tensor([-0.5, -3.0, -1.0, -2.0])
    assert ForgettingTokens(positive=0.5).scores(torch.stack([base, reference], -1)).tolist() == [1, -1, 1, -1]


def test_of_equal_scores_the_earlier_is_positive() -> None:
    assert ForgettingTokens(positive=0.5).scores(torch.zeros(40, 2)).tolist() == [1] * 20 + [-1] * 20


def test_all_positive_is_cross_entropy_and_asks_nobody() -> None:
    method = ForgettingTokens(positive=1.0)
    assert method.judges() == [] and method.costs() == ""
    nobody_judged = stats(torch.full((5,), -1.0), torch.zeros(5))
    assert torch.equal(method.weights(nobody_judged), torch.ones(5))


def test_the_base_and_the_reference_judge_and_a_missing_reference_is_told() -> None:
    assert ForgettingTokens(reference=" run:0001 ").judges() == ["", "run:0001"]
    assert "read all rows once" in ForgettingTokens().costs()
    assert "of the base." in ForgettingTokens(anchor=0.1).costs()
    for empty in ("", "  "):
        with pytest.raises(WorkbenchError, match=r"has no reference.*loss\.reference"):
            ForgettingTokens(reference=empty).judges()
