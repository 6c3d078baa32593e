"""SRFT's weight for demonstrations (arXiv:2506.19767): one number for the batch, half at certainty, from learnt tokens alone."""

import pytest
import torch

from workbench.methods.contracts import TokenStats
from workbench.methods.losses.srft import SRFT


def weights(entropy: list[float], mask: list[float]) -> list[float]:
    logp = torch.full((len(entropy),), -1.0)
    return SRFT().weights(TokenStats(logp, torch.tensor(mask), torch.tensor(entropy))).tolist()


def test_certainty_weighs_one_half() -> None:
    assert weights([0.0, 0.0], [1.0, 1.0]) == [0.5, 0.5]


def test_all_tokens_weigh_alike_by_the_mean_of_the_learnt_ones() -> None:
    assert weights([1.0, 3.0, 99.0], [1.0, 1.0, 0.0]) == pytest.approx([0.5 * torch.tensor(-2.0).exp().item()] * 3)
