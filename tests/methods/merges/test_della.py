"""DELLA (arXiv:2406.11617): the probabilities by hand, that it is right on average, its edges, and what mergekit makes of the same draw."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.della import DELLA
from workbench.methods.merges.task_arithmetic import TaskArithmetic
from workbench.methods.merges.ties import TIES

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(merge: DELLA, base: Tensor, model: Tensor, seeds: int = 1) -> Tensor:
    """How often each number was kept over so many seeds."""
    merges = [merge.model_copy(update={"seed": seed}) for seed in range(seeds)]
    return sum((one.tensor(SLOT, base, [model], [1]) != base).double() for one in merges) / seeds


def test_the_larger_a_change_in_its_row_the_likelier_it_is_kept() -> None:
    """p = d − ε + 2ε(r − 1)/(n − 1), read off as what a change of one row was divided by."""
    model = torch.tensor([[0.5, -4.0, 2.0, 1.0, 3.0], [-1.0, 2.0, -3.0, 4.0, -5.0]])
    expected = torch.tensor([[0.3, 0.7, 0.5, 0.4, 0.6], [0.3, 0.4, 0.5, 0.6, 0.7]])
    merge, seen = DELLA(density=0.5, epsilon=0.2), torch.zeros(2, 5)
    for seed in range(60):
        merged = merge.model_copy(update={"seed": seed}).tensor(SLOT, torch.zeros(2, 5), [model], [1])
        seen = torch.where(merged != 0, model / merged, seen)
    assert torch.allclose(seen, expected, atol=1e-6)
    often = kept(merge, torch.zeros(2, 5), model, seeds=2000)
    assert (often - expected).abs().max() < 5 * (0.25 / 2000) ** 0.5


def test_a_vector_is_one_row_and_a_row_of_one_number_has_the_density() -> None:
    model = torch.tensor([1.0, 5.0, 3.0])
    often = kept(DELLA(density=0.5, epsilon=0.4), torch.zeros(3), model, seeds=1000)
    assert torch.allclose(often, torch.tensor([0.1, 0.9, 0.5]).double(), atol=5 * (0.25 / 1000) ** 0.5)
    column = kept(DELLA(density=0.5, epsilon=0.4), torch.zeros(4, 1), torch.ones(4, 1), seeds=1000)
    assert torch.allclose(column, torch.full((4, 1), 0.5).double(), atol=5 * (0.25 / 1000) ** 0.5)
    for alone in (torch.ones(1), torch.ones(())):
        merged = DELLA(density=0.5, epsilon=0.4).tensor(SLOT, torch.zeros_like(alone), [alone], [1])
        assert float(merged) in (0.0, 2.0)


def test_equal_sizes_are_ranked_by_their_place() -> None:
    often = kept(DELLA(density=0.5, epsilon=0.5), torch.zeros(1, 3), torch.tensor([[1.0, -1.0, 1.0]]), seeds=400)
    assert often[0, 0] == 0 and often[0, 2] == 1 and abs(often[0, 1] - 0.5) < 0.13


@pytest.mark.parametrize(("density", "epsilon", "width"), [(0.7, 0.15, 0.15), (0.9, 0.15, 0.1), (0.1, 0.4, 0.1), (1.0, 0.5, 0.0)])
def test_epsilon_is_as_large_as_fits(density: float, epsilon: float, width: float) -> None:
    base, model = torch.zeros(20, 50), random(20, 50, seed=1)
    merge = DELLA(density=density, epsilon=epsilon, combine="sum")
    assert merge.explain(SLOT, base, [model], [1])["epsilon"] == pytest.approx(width)
    often = kept(merge, base, model, seeds=20)
    assert abs(float(often.mean()) - density) < 0.02, "the share stays the density"
    assert torch.isfinite(merge.tensor(SLOT, base, [model], [1])).all()


def test_with_density_1_nothing_is_dropped() -> None:
    base, models, weights = random(6, 5), [random(6, 5, seed=seed) for seed in (1, 2)], [0.5, 0.25]
    for rescale in ("1/probability", "L1", "none"):
        added = DELLA(density=1.0, rescale=rescale, combine="sum").tensor(SLOT, base, models, weights)
        assert torch.equal(added, TaskArithmetic().tensor(SLOT, base, models, weights))
        voted = DELLA(density=1.0, rescale=rescale).tensor(SLOT, base, models, weights)
        assert torch.equal(voted, TIES(density=1.0).tensor(SLOT, base, models, weights))


def test_on_average_it_is_task_arithmetic() -> None:
    """The mean over 400 seeds lies within five standard deviations of it, at each of 60 numbers."""
    base, model, merge = torch.zeros(10, 6), random(10, 6, seed=1), DELLA(density=0.5, epsilon=0.3, combine="sum")
    runs = [merge.model_copy(update={"seed": seed}).tensor(SLOT, base, [model], [1]).double() for seed in range(400)]
    error = sum(runs) / 400 - model
    largest = (model**2 * (1 / 0.2 - 1) / 400).sqrt()
    assert (error.abs() < 5 * largest).all()
    assert float(error.abs().sum() / model.abs().sum()) < 0.08, "and without a bias that grows with the rank"


@pytest.mark.parametrize("rescale", ["1/probability", "L1", "none"])
@pytest.mark.parametrize("combine", ["sum", "ties"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 3, 2)])
def test_blocks_of_rows_make_the_whole(rescale: str, combine: str, shape: tuple[int, ...]) -> None:
    merge = DELLA(density=0.4, rescale=rescale, combine=combine)
    base, models, weights = random(*shape), [random(*shape, seed=seed) for seed in (1, 2)], [1.0, 0.5]
    whole = merge.tensor(SLOT, base, models, weights)
    blocks = [(replace(SLOT, first=a), base[a : a + 2], [model[a : a + 2] for model in models]) for a in range(0, 9, 2)]
    added = [merge.totals(*block, weights) for block in blocks]
    known = replace(SLOT, totals=None if rescale != "L1" else sum(added))
    assert (added[0] is None) == (rescale != "L1")
    parts = [merge.tensor(replace(known, first=slot.first), *block, weights) for slot, *block in blocks]
    assert torch.equal(torch.cat(parts), whole)
    told = [merge.explain(replace(known, first=slot.first), *block, weights) for slot, *block in blocks]
    for name, value in merge.explain(SLOT, base, models, weights).items():
        mean = sum(len(block[1]) * numbers[name] for block, numbers in zip(blocks, told, strict=True)) / 9
        assert value == pytest.approx(mean, rel=1e-9)


def probabilities(delta: Tensor, density: float, epsilon: float) -> Tensor:
    """mergekit's, from its ranks of sizes in a row."""
    ranks = delta.abs().argsort(dim=1).argsort(dim=1).double() + 1
    least, most = ranks.min(dim=1, keepdim=True).values, ranks.max(dim=1, keepdim=True).values
    return (density - epsilon) + ((ranks - least) / (most - least)) * 2 * epsilon


@pytest.mark.parametrize("rescale", ["L1", "1/probability"])
@pytest.mark.parametrize("vote", [True, False])
def test_it_is_mergekits_or_the_authors_with_the_same_draw(rescale: str, vote: bool) -> None:
    """mergekit gives the length back, the authors' fork of it divides by the probability; both take the mean of those who agree."""
    zero, models, weights = torch.zeros(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)], [1.0, 0.5, 0.25]
    plain = DELLA(density=0.4, epsilon=0.2, rescale="none", combine="sum")
    deltas = []
    for index, model in enumerate(models):
        alone = [model if other == index else zero for other in range(3)]
        left = model.double() * (plain.tensor(SLOT, zero, alone, [1, 1, 1]) != 0)
        lost = model.abs().double().sum() / left.abs().sum()
        deltas.append(left * lost if rescale == "L1" else left / probabilities(model, 0.4, 0.2))
    stacked = torch.stack([delta * weight for delta, weight in zip(deltas, weights, strict=True)])
    agree, divisor = torch.ones_like(stacked), torch.ones(40, 30, dtype=torch.float64)
    if vote:
        agree = (stacked.sign() == (stacked.sum(0) >= 0).double() * 2 - 1).double()
        divisor = (agree * torch.tensor(weights, dtype=torch.float64)[:, None, None]).sum(0)
        divisor[divisor == 0] = 1
    expected = ((stacked * agree).sum(0) / divisor).float()
    merge = plain.model_copy(update={"rescale": rescale, "combine": "ties" if vote else "sum"})
    assert torch.allclose(merge.tensor(SLOT, zero, models, weights), expected, rtol=1e-5, atol=1e-6)


def test_models_tensors_and_seeds_draw_for_themselves() -> None:
    zero, model, merge = torch.zeros(50, 40), random(50, 40, seed=1).abs(), DELLA(density=0.5, epsilon=0.0, combine="sum")
    one = merge.tensor(SLOT, zero, [model], [1]) != 0
    others = [
        merge.tensor(SLOT, zero, [zero, model], [1, 1]) != 0,
        merge.tensor(replace(SLOT, name="x"), zero, [model], [1]) != 0,
        merge.model_copy(update={"seed": 1}).tensor(SLOT, zero, [model], [1]) != 0,
    ]
    assert all(abs(float((one == other).double().mean()) - 0.5) < 0.06 for other in others)
    assert torch.equal(one, merge.tensor(SLOT, zero, [model], [1]) != 0)


def test_what_is_told_by_hand_and_where_nothing_moved_there_is_no_nan() -> None:
    one, two = torch.tensor([4.0, 3.0, 2.0, 0.0]), torch.tensor([4.0, -1.0, 0.0, 0.0])
    told = DELLA(density=1.0, scale=0.5).explain(SLOT, torch.zeros(4), [one, two], [1, 1])
    assert told == {"scale": 0.5, "epsilon": 0.0, "kept": 0.75, "agree": 0.75}
    base = random(5, 4)
    for rescale, combine in itertools.product(("1/probability", "L1", "none"), ("sum", "ties")):
        merge = DELLA(density=0.01, epsilon=0.5, rescale=rescale, combine=combine)
        assert torch.equal(merge.tensor(SLOT, base, [base, base], [1, 1]), base)
        assert all(value == value for value in merge.explain(SLOT, base, [base, base], [1, 1]).values())
