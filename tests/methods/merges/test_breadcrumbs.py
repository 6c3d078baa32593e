"""Model Breadcrumbs (arXiv:2312.06795): what is left out at both ends by hand, its limits, and what mergekit's formula gives."""

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.breadcrumbs import Breadcrumbs

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
ZERO = torch.zeros(10)
ONE = torch.tensor([1.0, -2, 3, -4, 5, -6, 7, -8, 9, -10])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_both_ends_are_left_out_by_hand() -> None:
    merge = Breadcrumbs(density=0.3, outliers=0.2)
    assert merge.ranks([(10, 10)]) == [[3, 5]]
    assert merge.tensor(SLOT, ZERO, [ONE], [1]).tolist() == [0, 0, 0, 0, 0, -6, 7, -8, 0, 0]
    assert merge.explain(SLOT, ZERO, [ONE], [1]) == {"scale": 1.0, "kept": 0.3, "agree": 1.0}
    assert Breadcrumbs(density=0.3, outliers=0).tensor(SLOT, ZERO, [ONE], [1]).tolist() == [0, 0, 0, 0, 0, 0, 0, -8, 9, -10]


def test_fewer_outliers_are_left_out_where_more_is_to_be_kept() -> None:
    merge = Breadcrumbs(density=0.9, outliers=0.5)
    assert merge.ranks([(10, 10)]) == [[2, 10]]
    assert merge.tensor(SLOT, ZERO, [ONE], [1]).tolist() == [*ONE[:9].tolist(), 0]
    assert torch.equal(Breadcrumbs(density=1, outliers=0.5).tensor(SLOT, ZERO, [ONE], [1]), ONE)
    assert Breadcrumbs(density=0.1, outliers=0.5).ranks([(1, 1), (4, 0)]) == [[1, 1], [3, 3]], "at least one"


def test_equal_sizes_stay_together() -> None:
    model = torch.tensor([5.0, -5, 5, 5, 3, -3, 1, 1, 1, 1])
    assert Breadcrumbs(density=0.3, outliers=0.2).tensor(SLOT, ZERO, [model], [1]).tolist() == [5, -5, 5, 5, 3, -3, 0, 0, 0, 0]
    assert torch.equal(Breadcrumbs().tensor(SLOT, ZERO, [ZERO], [1]), ZERO)
    assert torch.equal(Breadcrumbs().tensor(SLOT, ZERO, [ZERO + 2], [1]), ZERO + 2)


def test_each_model_has_its_own_ends_and_weights_add_up() -> None:
    merge = Breadcrumbs(density=0.1, outliers=0.2)
    merged = merge.tensor(SLOT, ZERO, [ONE, ONE.flip(0)], [2, 0.5])
    assert merged.tolist() == [0, 0, -4, 0, 0, 0, 0, -16, 0, 0]


def test_with_the_vote_the_minority_is_left_out() -> None:
    one, two = torch.tensor([3.0, -1.0, 2.0, 1.0]), torch.tensor([-1.0, -2.0, -2.0, 0.0])
    zero = torch.zeros(4)
    vote, plain = Breadcrumbs(density=1, vote=True), Breadcrumbs(density=1)
    assert vote.tensor(SLOT, zero, [one, two], [1, 1]).tolist() == [3, -3, 2, 1], "a draw is settled for +"
    assert vote.tensor(SLOT, zero, [one, two], [1, 4]).tolist() == [-4, -9, -8, 1], "the heavier side wins"
    assert plain.tensor(SLOT, zero, [one, two], [1, 1]).tolist() == [2, -3, 0, 1]
    assert vote.explain(SLOT, zero, [one, two], [1, 1]) == {"scale": 1.0, "kept": 1.0, "agree": 0.5}


def mergekit(base: Tensor, models: list[Tensor], weights: list[float], density: float, outliers: float, vote: bool) -> Tensor:
    """Its generalised task arithmetic with `magnitude_outliers`, in double precision."""
    changes = []
    for model, weight in zip(models, weights, strict=True):
        change = (model - base).double().flatten()
        number = change.numel()
        keep, top = int(density * number), int(outliers * number)
        bottom = number - keep - top
        if bottom < 0:
            top, bottom = top + bottom, 0
        mask = torch.zeros_like(change)
        mask[change.abs().argsort()[bottom : number - top]] = 1
        changes.append((change * mask * weight).view_as(base))
    stacked = torch.stack(changes)
    if vote:
        majority = (stacked.sum(0) >= 0).double() * 2 - 1
        stacked = stacked * (stacked.sign() == majority)
    return (base.double() + stacked.sum(0)).float()


@pytest.mark.parametrize("vote", [False, True])
@pytest.mark.parametrize(("density", "outliers"), [(0.15, 0.01), (0.5, 0.1), (0.95, 0.2), (0.3, 0.0)])
def test_it_is_mergekits(density: float, outliers: float, vote: bool) -> None:
    base, models, weights = random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)], [1.0, 0.5, -0.25]
    merge = Breadcrumbs(density=density, outliers=outliers, vote=vote)
    expected = mergekit(base, models, weights, density, outliers, vote)
    assert torch.allclose(merge.tensor(SLOT, base, models, weights), expected, atol=1e-6)


def test_more_of_it_is_added_with_depth() -> None:
    base, models = random(6, 5), [random(6, 5, seed=seed) for seed in (1, 2)]
    plain = Breadcrumbs(density=0.5).tensor(SLOT, base, models, [1, 1]) - base
    for depth, scale in ((0.0, 0.2), (0.5, 0.6), (None, 0.2)):
        found = Breadcrumbs(density=0.5, scale=0.2, deeper=0.8).tensor(Slot("x", depth, 0, 3), base, models, [1, 1]) - base
        assert torch.allclose(found, scale * plain, atol=1e-6)
