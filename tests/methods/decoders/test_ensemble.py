"""The ensemble: between the two models, at its ends one of them, and a token that one rules out stays out."""

import math

import pytest
import torch

from workbench.methods.contracts import Voice
from workbench.methods.decoders.ensemble import Ensemble


class Says(Voice):
    def __init__(self, *shares: float):
        self.shares = torch.tensor(shares)

    def logits(self, tokens: object) -> torch.Tensor:
        return self.shares.log() + 3  # logits are known up to a number


def of(share: float, tuned: Voice, base: Voice) -> list[float]:
    return Ensemble(share=share).begin(tuned, base).logits([1]).softmax(-1).tolist()


def test_its_ends_are_the_two_models() -> None:
    tuned, base = Says(0.7, 0.2, 0.1), Says(0.1, 0.3, 0.6)
    assert of(1, tuned, base) == pytest.approx([0.7, 0.2, 0.1], abs=1e-6)
    assert of(0, tuned, base) == pytest.approx([0.1, 0.3, 0.6], abs=1e-6)


def test_halfway_it_is_the_geometric_mean() -> None:
    found = of(0.5, Says(0.8, 0.2), Says(0.2, 0.8))
    assert found == pytest.approx([0.5, 0.5], abs=1e-6)
    first, second = math.sqrt(0.9 * 0.5), math.sqrt(0.1 * 0.5)
    assert of(0.5, Says(0.9, 0.1), Says(0.5, 0.5)) == pytest.approx([first / (first + second), second / (first + second)], abs=1e-6)


def test_what_one_rules_out_is_out() -> None:
    assert of(0.25, Says(0.5, 0.5, 0.0), Says(0.1, 0.1, 0.8))[2] == 0
    assert of(1, Says(0.5, 0.5), Says(1.0, 0.0)) == pytest.approx([0.5, 0.5]), "who has no say rules nothing out"
