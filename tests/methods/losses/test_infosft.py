"""InfoSFT (arXiv:2605.14967): the values that the weight has for P = 0.93, 0.9 and 0.99, and what it leaves alone."""

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import TokenStats
from workbench.methods.losses.infosft import InfoSFT


def weight(q: Tensor, limit: float = 0.93) -> Tensor:
    return InfoSFT(limit=limit).weights(TokenStats(q.double().log(), torch.ones_like(q)))


@pytest.mark.parametrize("limit", [0.6, 0.9, 0.93, 0.99])
def test_a_token_at_one_half_weighs_one_half(limit: float) -> None:
    assert weight(torch.tensor([0.5]), limit).item() == pytest.approx(0.5)


@pytest.mark.parametrize(("q", "expected"), [(0.01, 0.028), (1e-4, 4.6e-4), (0.568, 0.508)])
def test_values_worked_out_beforehand(q: float, expected: float) -> None:
    assert weight(torch.tensor([q])).item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("limit", "where"), [(0.9, 0.524), (0.93, 0.568), (0.99, 0.724)])
def test_where_it_is_highest(limit: float, where: float) -> None:
    q = torch.linspace(0.001, 0.999, 9999)
    assert q[weight(q, limit).argmax()].item() == pytest.approx(where, abs=2e-3)


def test_what_is_likelier_than_the_limit_is_left_alone() -> None:
    assert (weight(torch.tensor([0.9301, 0.97, 1 - 1e-9, 1.0])) == 0).all()


def test_it_rises_to_one_top_and_pulls_hardest_at_a_third() -> None:
    q = torch.linspace(0.001, 0.999, 9999)
    rises = weight(q).diff() > 0
    assert (rises.int().diff() == 1).sum() == 0, "one top"
    pull = weight(q) * (1 - q)
    assert q[pull.argmax()].item() == pytest.approx(0.345, abs=0.003)
