"""EAFT (arXiv:2601.02151): sure of something wrong weighs nothing, twenty equal guesses weigh 1, the label is not looked at."""

import pytest
import torch

from workbench.jobs.objective import entropy_of
from workbench.methods.contracts import TokenStats
from workbench.methods.losses.eaft import EAFT


def weight(logits: torch.Tensor, label: int = 0, **knobs: float) -> float:
    method = EAFT(**knobs)
    table = logits.log_softmax(-1)[None]
    stats = TokenStats(table[:, label], torch.ones(1), entropy_of(table, method.entropy_over()))
    return method.weights(stats).item()


def test_a_confident_mistake_weighs_nothing() -> None:
    logits = torch.zeros(100)
    logits[7] = 30
    assert weight(logits, label=3) < 1e-3


def test_twenty_equal_guesses_weigh_one_whatever_lies_below_them() -> None:
    logits = torch.full((500,), -20.0)
    logits[40:60] = 3.0
    assert weight(logits) == pytest.approx(1, abs=1e-5)


def test_order_and_label_do_not_matter() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0)) * 3
    assert weight(logits) == pytest.approx(weight(logits.flip(0))) == pytest.approx(weight(logits, label=9))


def test_two_guesses_worked_by_hand() -> None:
    logits = torch.tensor([0.75, 0.25]).log()
    entropy = -(0.75 * torch.tensor(0.75).log() + 0.25 * torch.tensor(0.25).log()).item()
    assert weight(logits, top=2) == pytest.approx(entropy / 0.693147, rel=1e-5)
    assert weight(logits, top=2, power=2) == pytest.approx((entropy / 0.693147) ** 2, rel=1e-5)
