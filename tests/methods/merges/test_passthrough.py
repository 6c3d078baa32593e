"""Passthrough: the numbers as they are, or multiplied; one model in each place. What is stacked: `tests/jobs/test_stack.py`."""

import pytest
import torch

from workbench.materials.slot import Slot
from workbench.methods.merges.passthrough import Passthrough

SLOT = Slot("model.layers.0.mlp.up_proj.weight", 0.0, 0, 3)


def test_it_copies_and_multiplies() -> None:
    base, model = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(Passthrough().tensor(SLOT, base, [model], [1.0]), model)
    assert torch.equal(Passthrough(scale=-0.5).tensor(SLOT, base, [model], [1.0]), -0.5 * model)
    assert Passthrough(scale=0).tensor(SLOT, base, [model], [1.0]).abs().max() == 0
    assert Passthrough(scale=0.5).explain(SLOT, base, [model], [1.0]) == {"factor": 0.5}


@pytest.mark.parametrize(
    ("weights", "sentence"), [((1.0, 1.0), "Name one model in each slice"), ((0.5,), "Set its weight to 1"), ((), "needs at least 1")]
)
def test_what_it_cannot_take_is_said(weights: tuple[float, ...], sentence: str) -> None:
    assert sentence in " ".join(Passthrough().mistakes(weights)) and Passthrough().mistakes((1.0,)) == []
