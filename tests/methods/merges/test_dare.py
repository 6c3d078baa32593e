"""DARE (arXiv:2311.03099): what is drawn, that it is right on average, its limits, and what mergekit's formula makes of the same draw."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.dare import DARE
from workbench.methods.merges.task_arithmetic import TaskArithmetic
from workbench.methods.merges.ties import TIES

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(merge: DARE, *shape: int, models: int = 1, slot: Slot = SLOT) -> list[Tensor]:
    """Which numbers of each model were kept: each moves by 1 where the others do not."""
    zero = torch.zeros(*shape)
    return [
        merge.tensor(slot, zero, [torch.ones(*shape) if one == other else zero for other in range(models)], [1.0] * models) != 0
        for one in range(models)
    ]


def test_with_density_1_nothing_is_dropped() -> None:
    base, models, weights = random(6, 5), [random(6, 5, seed=seed) for seed in (1, 2)], [0.5, -0.25]
    for rescale in ("1/density", "L1", "none"):
        added = DARE(density=1.0, rescale=rescale).tensor(SLOT, base, models, weights)
        assert torch.equal(added, TaskArithmetic().tensor(SLOT, base, models, weights))
        voted = DARE(density=1.0, rescale=rescale, combine="ties").tensor(SLOT, base, models, [1, 2])
        assert torch.equal(voted, TIES(density=1.0).tensor(SLOT, base, models, [1, 2]))


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_the_share_is_kept_and_each_is_rescaled(density: float) -> None:
    merged = DARE(density=density).tensor(SLOT, torch.zeros(200, 100), [torch.ones(200, 100)], [1])
    assert merged.unique().tolist() == pytest.approx([0, 1 / density])
    kept = float((merged != 0).double().mean())
    assert abs(kept - density) < 5 * (density * (1 - density) / 20_000) ** 0.5
    plain = DARE(density=density, rescale="none").tensor(SLOT, torch.zeros(200, 100), [torch.ones(200, 100)], [1])
    assert torch.equal(plain, (merged != 0).float())


def test_on_average_it_is_task_arithmetic() -> None:
    """The mean over 400 seeds lies within five standard deviations of it, at each of 60 numbers."""
    base, models, density = torch.zeros(10, 6), [random(10, 6, seed=1), random(10, 6, seed=2)], 0.3
    mean = sum(DARE(density=density, seed=seed).tensor(SLOT, base, models, [1, 0.5]).double() for seed in range(400)) / 400
    error = mean - TaskArithmetic().tensor(SLOT, base, models, [1, 0.5])
    spread = ((models[0] ** 2 + 0.25 * models[1] ** 2) * (1 / density - 1) / 400).sqrt()
    assert (error.abs() < 5 * spread).all() and (error.abs() > spread / 10).any()


def test_models_tensors_and_seeds_draw_for_themselves() -> None:
    one, two = drawn(DARE(density=0.5), 50, 40, models=2)
    other = drawn(DARE(density=0.5), 50, 40, slot=replace(SLOT, name="x"))[0]
    later = drawn(DARE(density=0.5, seed=1), 50, 40)[0]
    for again in (two, other, later):
        assert abs(float((one == again).double().mean()) - 0.5) < 0.06
    assert torch.equal(one, drawn(DARE(density=0.5), 50, 40)[0])


def test_a_number_is_kept_at_a_lower_density_only_if_it_is_kept_at_a_higher() -> None:
    few, many = (drawn(DARE(density=density), 50, 40)[0] for density in (0.3, 0.6))
    assert not (few & ~many).any() and few.sum() < many.sum()


@pytest.mark.parametrize("rescale", ["1/density", "L1", "none"])
@pytest.mark.parametrize("combine", ["sum", "ties"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 3, 2)])
def test_blocks_of_rows_make_the_whole(rescale: str, combine: str, shape: tuple[int, ...]) -> None:
    merge = DARE(density=0.4, rescale=rescale, combine=combine)
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


def mergekit(base: Tensor, models: list[Tensor], kept: list[Tensor], weights: list[float], vote: bool) -> Tensor:
    """Its dare_linear and dare_ties with `rescale` and without `normalize`, of a given draw, in double precision."""
    deltas = []
    for model, mask in zip(models, kept, strict=True):
        delta = model.double() - base.double()
        deltas.append(delta * mask * (delta.abs().sum() / (delta * mask).abs().sum()))
    stacked = torch.stack([delta * weight for delta, weight in zip(deltas, weights, strict=True)])
    if vote:
        majority = (stacked.sum(0) >= 0).double() * 2 - 1
        stacked = stacked * (stacked.sign() == majority)
    return (base.double() + stacked.sum(0)).float()


def test_it_is_mergekits_with_the_same_draw() -> None:
    base, models, weights = random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)], [1.0, 0.5, 0.25]
    merge = DARE(density=0.4, rescale="L1")
    kept = drawn(merge, 40, 30, models=3)
    assert torch.allclose(merge.tensor(SLOT, base, models, weights), mergekit(base, models, kept, weights, vote=False), atol=1e-6)
    summed = mergekit(torch.zeros(40, 30), [m - base for m in models], kept, weights, vote=True).double()
    voted = merge.model_copy(update={"combine": "ties"}).tensor(SLOT, base, models, weights).double() - base.double()
    stacked = torch.stack([(m - base) * k for m, k in zip(models, kept, strict=True)])
    share = torch.tensor(weights)[:, None, None] * ((stacked.sign() == summed.sign()) & (stacked != 0))
    assert torch.allclose(voted * share.sum(0), summed, atol=1e-5), "a mean over those who agree, where mergekit adds"


def test_l1_gives_each_model_its_length_back_and_says_by_how_much() -> None:
    base, model = torch.zeros(50, 20), random(50, 20, seed=1)
    merge = DARE(density=0.1, rescale="L1")
    merged = merge.tensor(SLOT, base, [model], [1])
    assert float(merged.abs().sum()) == pytest.approx(float(model.abs().sum()), rel=1e-6)
    factor = merge.explain(SLOT, base, [model], [1])["factor"]
    assert factor == pytest.approx(float((merged[merged != 0] / model[merged != 0]).mean()), rel=1e-6) and abs(factor - 10) > 0.01
    assert DARE(density=0.1).explain(SLOT, base, [model], [1])["factor"] == pytest.approx(10)
    assert DARE(density=0.1, rescale="none").explain(SLOT, base, [model], [1])["factor"] == 1


def test_where_nothing_is_left_or_nothing_moved_there_is_no_nan() -> None:
    base, one = torch.ones(1, 1), torch.full((1, 1), 3.0)
    for combine in ("sum", "ties"):
        for rescale in ("1/density", "L1", "none"):
            merge = DARE(density=1e-6, rescale=rescale, combine=combine)
            assert merge.tensor(SLOT, base, [one, base], [1, 1]).item() == 1.0
            assert all(value == value for value in merge.explain(SLOT, base, [one, base], [1, 1]).values())


def test_what_is_told_by_hand() -> None:
    one, two = torch.tensor([4.0, 3.0, 2.0, 0.0]), torch.tensor([4.0, -1.0, 0.0, 0.0])
    told = DARE(density=1.0, scale=0.5).explain(SLOT, torch.zeros(4), [one, two], [1, 1])
    assert told == {"scale": 0.5, "factor": 1.0, "kept": 0.75, "agree": 0.75}


def test_lines_stands_on_top_of_it() -> None:
    base, models = random(6, 5), [random(6, 5, seed=seed) for seed in (1, 2)]
    plain = DARE(density=0.5).tensor(SLOT, base, models, [1, 1]) - base
    deep = DARE(density=0.5, scale=0.2, deeper=0.8).tensor(replace(SLOT, depth=1.0), base, models, [1, 1]) - base
    half = DARE(density=0.5, scale=0.2, deeper=0.6).tensor(SLOT, base, models, [1, 1]) - base
    assert torch.allclose(deep, plain, atol=1e-6) and torch.allclose(half, 0.5 * plain, atol=1e-6)
