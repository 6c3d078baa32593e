"""RAM and RAM+TL (arXiv:2601.13572): who stands alone and who shares, by hand; its limits, and what mergekit's formula gives."""

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.ram import RAM

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
ZERO = torch.zeros(4)
ONE, TWO = torch.tensor([4.0, 1.0, 0.0, 2.0]), torch.tensor([0.0, 3.0, 0.0, -2.0])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sparse(*shape: int, seed: int) -> Tensor:
    return random(*shape, seed=seed) * (random(*shape, seed=seed + 100) > 0.5)


def test_alone_stays_and_shared_is_averaged() -> None:
    assert RAM().tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [4.0, 2.0, 0.0, 0.0]
    assert RAM(scale=0.5).tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [2.0, 1.0, 0.0, 0.0]
    assert RAM().explain(SLOT, ZERO, [ONE, TWO], [1, 1]) == {"scale": 1.0, "alone": 0.25, "shared": 0.5, "factor": 1.0}


def test_three_models_divide_by_those_who_moved() -> None:
    merged = RAM().tensor(SLOT, ZERO, [ONE, TWO, torch.tensor([0.0, 5.0, 7.0, 0.0])], [1, 1, 1])
    assert merged.tolist() == [4.0, 3.0, 7.0, 0.0]


def test_changes_up_to_epsilon_count_as_none() -> None:
    merge = RAM(epsilon=1.0)
    assert merge.tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [4.0, 3.0, 0.0, 0.0]
    assert RAM(epsilon=0).tensor(SLOT, ZERO, [1e-9 * ONE], [1]).tolist() == (1e-9 * ONE).tolist()
    assert RAM().tensor(SLOT, ZERO, [1e-9 * ONE], [1]).tolist() == [0, 0, 0, 0]


def test_amplified_is_what_stands_alone_of_a_model_that_shares_much() -> None:
    """The first model shares two and has one alone: ρ = 2, cut to 0.2. The second has none alone."""
    assert RAM().totals(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [[2, 2], [1, 0]]
    assert RAM(amplify=True).tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == pytest.approx([4 * 1.02, 2, 0, 0])
    strong = RAM(amplify=True, rate=0.5, limit=1.5)
    assert strong.tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == pytest.approx([4 * 1.75, 2, 0, 0])
    assert RAM(amplify=True, rate=0.5, limit=5).explain(SLOT, ZERO, [ONE, TWO], [1, 1])["factor"] == 2.0
    assert RAM(amplify=True).tensor(SLOT, ZERO, [ONE], [1]).tolist() == ONE.tolist(), "alone with nothing shared: ρ = 0"
    wide, three = RAM(amplify=True, rate=1, limit=10), [torch.tensor(row) for row in ([1.0, 2, 0, 0], [1.0, 0, 0, 0], [0.0, 0, 3, 4])]
    assert wide.tensor(SLOT, ZERO, three, [1, 1, 1]).tolist() == [1, 4, 3, 4], "each by its own: ρ = 1 and 0"
    assert wide.explain(SLOT, ZERO, three, [1, 1, 1])["factor"] == pytest.approx(5 / 3)


def test_the_counts_are_those_of_the_whole_tensor() -> None:
    base, models = torch.zeros(6, 5), [sparse(6, 5, seed=seed) for seed in (1, 2)]
    merge = RAM(amplify=True, rate=1, limit=10)
    parts = [merge.totals(SLOT, base[a : a + 2], [model[a : a + 2] for model in models], [1, 1]) for a in (0, 2, 4)]
    assert torch.equal(sum(parts), merge.totals(SLOT, base, models, [1, 1]))
    slot = Slot("x", 0.5, 1, 3, totals=torch.tensor([[3.0, 3.0], [1.0, 1.0]], dtype=torch.float64))
    alone = merge.tensor(slot, ZERO, [ONE, ZERO], [1, 1])
    assert alone.tolist() == (4 * ONE).tolist()


def mergekit(base: Tensor, models: list[Tensor], rate: float, limit: float) -> Tensor:
    """Its formula, in double precision; with rate 0 that of RAM."""
    changes = torch.stack([(model.double() - base.double()).flatten() for model in models])
    active = changes.abs() > 1e-5
    count = active.sum(0, keepdim=True)
    shared, alone = (active & (count > 1)).sum(1), (active & (count == 1)).sum(1)
    factor = 1 + rate * (shared / alone.clamp(min=1e-5)).clamp(0, limit)
    changes = changes * active
    merged = (changes * (count == 1) * factor[:, None] + changes * (count > 1) / count.clamp(min=1)).sum(0)
    return (base.double() + merged.view_as(base)).float()


@pytest.mark.parametrize("amplify", [False, True])
def test_it_is_mergekits(amplify: bool) -> None:
    base = random(40, 30)
    models = [base + sparse(40, 30, seed=seed) for seed in (1, 2, 3)]
    expected = mergekit(base, models, 0.1 if amplify else 0.0, 0.2)
    assert torch.allclose(RAM(amplify=amplify).tensor(SLOT, base, models, [1, 1, 1]), expected, atol=1e-6)


def test_one_model_is_itself_and_more_is_added_with_depth() -> None:
    base, model = random(30, 20), random(30, 20, seed=1)
    for merge in (RAM(), RAM(amplify=True)):
        assert torch.equal(merge.tensor(SLOT, base, [model], [1]), model)
        assert merge.tensor(SLOT, base[0, 0], [model[0, 0]], [1]).item() == model[0, 0].item(), "a single number too"
    found = RAM(scale=0.2, deeper=0.8).tensor(SLOT, base, [model], [1])
    assert torch.allclose(found, base + 0.6 * (model - base), atol=1e-6)


def test_all_weights_are_equal() -> None:
    assert RAM().mistakes([1, 1, 1]) == [] and "the same share" in RAM().mistakes([1, 2])[0]
