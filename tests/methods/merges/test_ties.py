"""TIES (arXiv:2306.01708): trimming, the vote and the mean by hand, its limits, and what mergekit's formula gives."""

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.task_arithmetic import TaskArithmetic
from workbench.methods.merges.ties import TIES

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
ZERO = torch.zeros(4)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_trim_vote_and_mean_by_hand() -> None:
    """Half of each is kept: (4, ·, ·, −3) and (·, 6, ·, 5); the last number is settled for +, where only the second stands."""
    one, two = torch.tensor([4.0, 1.0, 0.5, -3.0]), torch.tensor([1.0, 6.0, -0.5, 5.0])
    assert TIES(density=0.5).tensor(SLOT, ZERO, [one, two], [1, 1]).tolist() == [4.0, 6.0, 0.0, 5.0]
    assert TIES(density=1.0).tensor(SLOT, ZERO, [one, two], [1, 1]).tolist() == [2.5, 3.5, 0.5, 5.0]
    assert TIES(density=1.0).tensor(SLOT, ZERO, [one, two], [2, 1])[3].item() == -3.0, "the heavier side wins: −6 against 5"
    assert TIES(density=1.0, combine="sum").tensor(SLOT, ZERO, [one, two], [1, 1]).tolist() == [5.0, 7.0, 0.5, 5.0]
    assert TIES(density=1.0, combine="largest").tensor(SLOT, ZERO, [one, two], [1, 1]).tolist() == [4.0, 6.0, 0.5, 5.0]


def test_of_one_model_it_keeps_the_largest_changes() -> None:
    base, model = random(30, 20), random(30, 20, seed=1)
    assert torch.equal(TIES(density=1.0).tensor(SLOT, base, [model], [1]), model)
    for density in (0.2, 0.5, 1 / 599):
        moved = (TIES(density=density).tensor(SLOT, base, [model], [1]) - base).abs()
        kept = max(1, int(density * 600))
        assert int((moved > 0).sum()) == kept
        assert set(moved.flatten().topk(kept).indices.tolist()) == set((model - base).abs().flatten().topk(kept).indices.tolist())


def test_all_who_agree_are_averaged() -> None:
    base, change = random(5, 4), random(5, 4, seed=1).abs()
    models = [base + change * factor for factor in (1, 2, 3)]
    assert torch.allclose(TIES(density=1.0).tensor(SLOT, base, models, [1, 1, 1]), base + 2 * change, atol=1e-6)
    alone = TIES(density=1.0).explain(SLOT, base, models, [1, 1, 1])
    assert alone == {"scale": 1.0, "agree": 1.0, "kept": 1.0}


def test_equal_sizes_stay_together() -> None:
    base, model = torch.zeros(6), torch.tensor([1.0, -1.0, 1.0, 2.0, 0.5, 0.0])
    assert TIES(density=0.5).tensor(SLOT, base, [model], [1]).tolist() == [1.0, -1.0, 1.0, 2.0, 0.0, 0.0]


def mergekit(base: Tensor, models: list[Tensor], weights: list[float], density: float) -> Tensor:
    """Its generalised task arithmetic with `normalize: true`, in double precision."""
    changes = []
    for model in models:
        change = (model - base).double()
        keep = change.abs().flatten().argsort(descending=True)[: int(density * change.numel())]
        mask = torch.zeros(change.numel(), dtype=torch.float64)
        mask[keep] = 1
        changes.append(change * mask.view_as(change))
    stacked = torch.stack(changes) * torch.tensor(weights, dtype=torch.float64).reshape(-1, 1, 1)
    majority = (stacked.sum(0) >= 0).double() * 2 - 1
    agree = (stacked.sign() == majority).double()
    divisor = (agree * torch.tensor(weights, dtype=torch.float64).reshape(-1, 1, 1)).sum(0)
    divisor[divisor == 0] = 1
    return (base.double() + (stacked * agree).sum(0) / divisor).float()


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_it_is_mergekits(density: float) -> None:
    base, models, weights = random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)], [1.0, 0.5, 0.25]
    ours = TIES(density=density).tensor(SLOT, base, models, weights)
    assert torch.allclose(ours, mergekit(base, models, weights, density), atol=1e-6)


def test_lines_stands_on_top_of_it() -> None:
    base, models = random(6, 5), [random(6, 5, seed=seed) for seed in (1, 2)]
    plain = TIES(density=0.5).tensor(SLOT, base, models, [1, 1]) - base
    deep = TIES(density=0.5, scale=0.2, deeper=0.8)
    for depth, scale in ((0.0, 0.2), (0.5, 0.6), (1.0, 1.0), (None, 0.2)):
        found = deep.tensor(Slot("x", depth, 0, 3), base, models, [1, 1]) - base
        assert torch.allclose(found, scale * plain, atol=1e-6)


def test_a_share_of_the_whole_model_is_its_own_cut() -> None:
    """With the model's cuts in the slot, a tensor of small changes keeps none and one of large changes all."""
    small, large = 0.1 * random(10, 10).abs(), 1 + random(10, 10, seed=1).abs()
    merge, least = TIES(density=0.5, trim="model"), ((0.9,),)
    assert merge.across()
    for change, kept in ((small, 0.0), (large, 1.0)):
        slot = Slot("x", 0.0, 0, 3, cuts=least)
        assert merge.explain(slot, torch.zeros(10, 10), [change], [1])["kept"] == kept


def test_one_model_against_the_vote_is_left_out_of_the_mean() -> None:
    base = torch.zeros(1, 1)
    models = [torch.full((1, 1), value) for value in (1.0, 1.0, -1.5)]
    assert TIES(density=1.0).tensor(SLOT, base, models, [1, 1, 1]).item() == 1.0
    assert TaskArithmetic().tensor(SLOT, base, models, [1, 1, 1]).item() == 0.5
    assert TIES(density=1.0).explain(SLOT, base, models, [1, 1, 1])["agree"] == 0.0


def test_agreement_is_counted_over_all_numbers() -> None:
    """Four numbers: both for +, one against the vote, one alone, none; after trimming to half the second has no opponent."""
    one, two = torch.tensor([4.0, 3.0, 2.0, 0.0]), torch.tensor([4.0, -1.0, 0.0, 0.0])
    assert TIES(density=1.0).explain(SLOT, ZERO, [one, two], [1, 1]) == {"scale": 1.0, "kept": 0.75, "agree": 0.75}
    assert TIES(density=0.25).explain(SLOT, ZERO, [one, two], [1, 1]) == {"scale": 1.0, "kept": 0.25, "agree": 1.0}
