"""The contrast with the base: p₁·(p₁/p₀)^a by hand, among what the tuned model finds plausible."""

from collections.abc import Callable

import pytest
import torch

from workbench.methods.contracts import Voice
from workbench.methods.decoders.contrastive import Contrastive

P1, P0 = (0.5, 0.3, 0.15, 0.05), (0.4, 0.4, 0.19, 0.01)


class Says(Voice):
    def __init__(self, *shares: float, up: float = 0.0):
        self.said = torch.tensor(shares).log() + up  # logits are known up to a number

    def logits(self, tokens: object) -> torch.Tensor:
        return self.said


@pytest.fixture
def of() -> Callable[..., list[float]]:
    return lambda **knobs: Contrastive(**knobs).begin(Says(*P1, up=2), Says(*P0, up=-1)).logits([1]).softmax(-1).tolist()


def test_it_goes_further_along_the_way_from_the_base(of: Callable[..., list[float]]) -> None:
    for strength in (0.5, 2.0, -0.5):
        shares = [one * (one / other) ** strength for one, other in zip(P1, P0, strict=True)]
        assert of(strength=strength, cutoff=0) == pytest.approx([share / sum(shares) for share in shares], abs=1e-6)
    assert of(strength=-1, cutoff=0) == pytest.approx(P0, abs=1e-6)
    assert of(strength=0, cutoff=0) == pytest.approx(P1, abs=1e-6)


def test_only_what_the_tuned_model_finds_plausible_counts(of: Callable[..., list[float]]) -> None:
    assert max(range(4), key=of(strength=4, cutoff=0).__getitem__) == 3, "the unlikeliest has the largest ratio"
    found = of(strength=4, cutoff=0.25)
    assert found[3] == 0 and all(share > 0 for share in found[:3])
    assert of(strength=4, cutoff=1) == pytest.approx([1, 0, 0, 0], abs=1e-6)


def test_the_base_speaks_as_it_is() -> None:
    base = Says(*P0)
    assert Contrastive().begin(base, base) is base  # type: ignore[arg-type]
