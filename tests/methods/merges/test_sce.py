"""SCE (arXiv:2408.07990): select, calculate and erase by hand, identical and tiny changes, and what mergekit's formula gives."""

import math

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.sce import SCE

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
ZERO = torch.zeros(4)
ONE, TWO = torch.tensor([4.0, 2.0, 1.0, 0.0]), torch.tensor([2.0, -1.0, 1.0, 0.0])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_calculate_and_erase_by_hand() -> None:
    """Squares add up to 21 and 6, so the shares are 7/9 and 2/9; at the second number the vote is for + and the second model leaves."""
    merged = SCE().tensor(SLOT, ZERO, [ONE, TWO], [1, 1])
    assert merged.tolist() == pytest.approx([(7 * 4 + 2 * 2) / 9, 2, 1, 0])
    told = SCE().explain(SLOT, ZERO, [ONE, TWO], [1, 1])
    assert told == pytest.approx({"scale": 1.0, "kept": 0.75, "agree": 0.75, "heaviest": 7 / 9})
    assert SCE().explain(SLOT, ZERO, [ONE, ZERO], [1, 1])["kept"] == 0.75, "of at least one model"


def test_select_by_hand() -> None:
    """Deviations 1, 1.5, 0 and 0: of the two numbers that differ, half is one; of its squares 4 and 1 the shares follow."""
    assert SCE(density=0.5).ranks([(4, 2)]) == [[1]] and SCE(density=0.1).ranks([(4, 2)]) == [[1]]
    (spread,) = SCE(density=0.5).sizes(SLOT, ZERO, [ONE, TWO], [1, 1])
    assert spread.tolist() == [1, 1.5, 0, 0] and spread.dtype == torch.float32
    assert SCE(density=0.5).tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [0, 2, 0, 0]
    assert SCE(density=0.5).totals(Slot("x", 0.5, 1, 3, cuts=((1.5,),)), ZERO, [ONE, TWO], [1, 1]).tolist() == [4, 1]
    assert SCE(density=0.99).tensor(SLOT, ZERO, [ONE, TWO, ONE], [1, 1, 1])[2:].tolist() == [0, 0], "what does not differ is not selected"


def test_changes_that_are_alike_are_kept() -> None:
    base, model = random(30, 20), random(30, 20, seed=1)
    for count in (1, 2, 3, 7):
        (spread,) = SCE(density=0.1).sizes(SLOT, base, [model] * count, [1] * count)
        assert not spread.any(), "not even by the last digit of a mean of three"
        for density in (0.1, 1.0):
            assert torch.equal(SCE(density=density).tensor(SLOT, base, [model] * count, [1] * count), model)
    assert torch.equal(SCE(density=0.5).tensor(SLOT, base, [base] * 3, [1] * 3), base)
    assert SCE().tensor(SLOT, base[0, 0], [model[0, 0]], [1]).item() == model[0, 0].item(), "a single number too"


def test_the_votes_count_by_their_weights() -> None:
    assert SCE().tensor(SLOT, ZERO, [ONE, TWO], [1, 3])[1].item() == -1, "2 against 3·1"
    assert SCE().tensor(SLOT, ZERO, [ONE, TWO], [1, 2])[1].item() == 2, "votes that cancel count as +"
    assert SCE().explain(SLOT, ZERO, [ONE, TWO], [2, 7])["heaviest"] == pytest.approx(0.5)
    assert SCE().tensor(SLOT, ZERO, [ONE, TWO], [2, 7])[0].item() == pytest.approx(3)
    assert SCE().tensor(SLOT, ZERO, [ONE, TWO], [0, 0]).tolist() == [0, 0, 0, 0]
    assert SCE().tensor(SLOT, ZERO, [ONE, TWO], [1, 0]).tolist() == ONE.tolist()


@pytest.mark.parametrize("size", [1e-12, 1e-4, 1.0])
def test_the_shares_do_not_depend_on_how_far_the_models_moved(size: float) -> None:
    assert SCE().explain(SLOT, ZERO, [size * ONE, size * TWO], [1, 1])["heaviest"] == pytest.approx(7 / 9)


def mergekit(base: Tensor, models: list[Tensor], density: float) -> Tensor:
    """Its formula without the bound of 1e-6 on the squares, in double precision."""
    changes = torch.stack([model.double() - base.double() for model in models])
    if density < 1:
        variance = changes.var(0, unbiased=False)
        mask = torch.zeros(variance.numel(), dtype=torch.float64)
        mask[variance.flatten().topk(int(int((variance != 0).sum()) * density)).indices] = 1
        changes = changes * mask.view_as(variance)
    shares = changes.square().flatten(1).mean(1)
    shares = (shares / shares.sum()).reshape(-1, 1, 1)
    shares = shares * (changes.sign() == (changes.sum(0) >= 0).double() * 2 - 1)
    return (base + (changes * shares).sum(0) / shares.sum(0).clamp(min=1e-6)).float()


@pytest.mark.parametrize("density", [0.1, 0.75, 1.0])
def test_it_is_mergekits(density: float) -> None:
    base, models = random(40, 30), [random(40, 30, seed=seed) * seed for seed in (1, 2, 3)]
    models = [torch.where(random(40, 30, seed=9) > 0, model, base) for model in models]
    assert torch.allclose(SCE(density=density).tensor(SLOT, base, models, [1, 1, 1]), mergekit(base, models, density), atol=1e-6)


def test_the_last_digit_of_the_sums_is_not_seen() -> None:
    """Shares have 32 binary digits, so blocks that add up in another order make the same merge."""
    heaviest = SCE().explain(SLOT, random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)], [1, 1, 1])["heaviest"]
    assert (math.frexp(heaviest)[0] * 2**32).is_integer()


def test_more_of_it_is_added_with_depth_and_no_weight_is_negative() -> None:
    base, model = random(6, 5), random(6, 5, seed=1)
    found = SCE(scale=0.2, deeper=0.8).tensor(SLOT, base, [model], [1])
    assert torch.allclose(found, base + 0.6 * (model - base), atol=1e-6)
    assert SCE().mistakes([1, 0]) == [] and "below zero" in SCE().mistakes([1, -1])[0]
