"""WiSE-FT (arXiv:2109.01903): its ends exactly, the line between them, and what else comes to the same."""

import pytest
import torch

from workbench.methods.contracts import Slot
from workbench.methods.merges.linear import Linear
from workbench.methods.merges.task_arithmetic import TaskArithmetic
from workbench.methods.merges.wise_ft import WiSEFT

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
torch.manual_seed(0)
BASE, MODEL = torch.randn(2, 40, 30)


def test_its_ends_are_the_base_and_the_model_exactly() -> None:
    """Also where they differ by many orders of magnitude, so that a difference could not be added back."""
    for base, model in ((BASE, MODEL), (1e20 * BASE, 1e-20 * MODEL), (1e-30 * BASE, 1e10 * MODEL)):
        assert torch.equal(WiSEFT(alpha=0).tensor(SLOT, base, [model], [1]), base)
        assert torch.equal(WiSEFT(alpha=1).tensor(SLOT, base, [model], [1]), model)


def test_a_point_between_them_by_hand() -> None:
    base, model = torch.tensor([0.0, 4.0, -1.0]), torch.tensor([4.0, 0.0, -1.0])
    assert WiSEFT(alpha=0.25).tensor(SLOT, base, [model], [1]).tolist() == [1, 3, -1]
    assert WiSEFT().tensor(SLOT, base, [model], [1]).tolist() == [2, 2, -1]
    assert base.tolist() == [0, 4, -1]


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.55, 0.9])
def test_every_alpha_gives_the_base_back_from_copies_of_it(alpha: float) -> None:
    assert torch.equal(WiSEFT(alpha=alpha).tensor(SLOT, BASE, [BASE.clone()], [1]), BASE)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_linear_and_task_arithmetic_come_to_the_same(alpha: float) -> None:
    ours = WiSEFT(alpha=alpha).tensor(SLOT, BASE, [MODEL], [1])
    assert torch.equal(ours, Linear(normalise=False).tensor(SLOT, BASE, [MODEL], [alpha]))
    assert torch.allclose(ours, TaskArithmetic(scale=alpha).tensor(SLOT, BASE, [MODEL], [1]), rtol=2**-22, atol=1e-8)


def test_what_is_told_by_hand() -> None:
    base, model = torch.tensor([0.0, 2.0]), torch.tensor([3.0, 6.0])
    assert WiSEFT(alpha=0.3).explain(SLOT, base, [model], [1]) == {"alpha": 0.3, "norm": 5.0, "relative": 2.5}
    assert WiSEFT().explain(SLOT, 0 * base, [model], [1])["relative"] == 0


def test_it_takes_one_model_without_a_weight() -> None:
    assert WiSEFT().mistakes([1.0]) == []
    assert "at most 1 tuned model," in WiSEFT().mistakes([1.0, 1.0])[0]
    assert WiSEFT().mistakes([0.3]) == [
        "In WiSE-FT `alpha` says how much of the model is taken. Set its weight to 1 and choose `alpha` instead."
    ]
