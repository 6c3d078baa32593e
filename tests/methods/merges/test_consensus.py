"""Consensus merging (arXiv:2405.07813): who needs a number, by hand and as the authors write it, and what is left of the sum."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Slot
from workbench.methods.merges.consensus import Consensus
from workbench.methods.merges.task_arithmetic import TaskArithmetic

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
ZERO = torch.zeros(5)
ONE, TWO, THREE = (torch.tensor(row) for row in ([4.0, 4.0, 4.0, -4.0, 0.0], [2.0, 1.0, -2.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0]))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_models_by_hand() -> None:
    """At λₜ = 0.4 a change is needed if it is more than 0.4 of the other: 4 and 2, 4 and −2 are; 1 beside 4 and 0 are not."""
    merge = Consensus()
    assert merge.tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [6, 0, 2, 0, 0]
    assert Consensus(threshold=0.2).tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [6, 5, 2, 0, 0]
    assert Consensus(threshold=0.6).tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [0] * 5
    assert merge.explain(SLOT, ZERO, [ONE, TWO], [1, 1]) == pytest.approx({"scale": 1, "kept": 0.4, "selfish": 0.4})


def test_three_models_by_hand() -> None:
    """At the first number 4 > 0.4·3 and 2 ≥ 0.4·5, which is not more; at the second only 4 > 0.4·2 is."""
    models = [ONE, TWO, THREE]
    assert Consensus().tensor(SLOT, ZERO, models, [1, 1, 1]).tolist() == [0, 0, 2, 0, 0]
    assert Consensus(threshold=0.3).tensor(SLOT, ZERO, models, [1, 1, 1]).tolist() == [7, 0, 2, 0, 0]
    assert Consensus(threshold=0.1, needed=3).tensor(SLOT, ZERO, models, [1, 1, 1]).tolist() == [7, 6, 0, 0, 0]
    alone = Consensus(needed=1).explain(SLOT, ZERO, models, [1, 1, 1])
    assert alone == pytest.approx({"scale": 1, "kept": 0.8, "selfish": 0})


def test_what_nobody_needs_is_left_out_even_if_one_is_enough() -> None:
    """Four small changes that add up to more than 1/λₜ of each: catastrophic."""
    models = [torch.ones(1)] * 4
    assert Consensus(threshold=0.4, needed=1).tensor(SLOT, torch.zeros(1), models, [1] * 4).item() == 0
    assert Consensus(threshold=0.3, needed=4).tensor(SLOT, torch.zeros(1), models, [1] * 4).item() == 4


def authors(base: Tensor, models: list[Tensor], threshold: float, needed: int) -> Tensor:
    """Their masks are taken from the distances of the models, then counted; the coefficient is 1."""
    base, models = base.double(), [model.double() for model in models]
    merged = sum(model - base for model in models)
    masks = [(base - model).abs() > (base + merged - model).abs() * threshold for model in models]
    return (base + merged * (sum(mask.float() for mask in masks) >= needed)).float()


@pytest.mark.parametrize("needed", [1, 2, 3])
@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6])
def test_it_is_the_authors(threshold: float, needed: int) -> None:
    base, models = random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)]
    ours = Consensus(threshold=threshold, needed=needed).tensor(SLOT, base, models, [1, 1, 1])
    assert torch.allclose(ours, authors(base, models, threshold, needed), atol=1e-6)


def test_with_threshold_0_it_is_task_arithmetic_where_two_moved() -> None:
    base, models = random(30, 20), [random(30, 20, seed=seed) for seed in (1, 2)]
    everything = Consensus(threshold=0, scale=0.3).tensor(SLOT, base, models, [1, 2])
    assert torch.allclose(everything, TaskArithmetic(scale=0.3).tensor(SLOT, base, models, [1, 2]), rtol=2**-22, atol=1e-8)
    assert torch.equal(Consensus(threshold=0).tensor(SLOT, base, [models[0], base], [1, 1]), base)


def test_weights_count_in_the_masks_and_equal_ones_fall_out() -> None:
    assert Consensus().tensor(SLOT, ZERO, [ONE, TWO], [0.25, 1]).tolist() == [3, 2, -1, 0, 0]
    assert Consensus().tensor(SLOT, ZERO, [ONE, TWO], [0.5, 0.5]).tolist() == [3, 0, 1, 0, 0]
    assert Consensus().tensor(SLOT, ZERO, [ONE, TWO], [1, -1]).tolist() == [2, 0, 6, 0, 0], "needed is a matter of size"


def test_equal_models_are_needed_by_all() -> None:
    base, model = random(5, 4), random(5, 4, seed=1)
    assert torch.allclose(Consensus(scale=0.5).tensor(SLOT, base, [model, model], [1, 1]), model, atol=1e-6)
    assert torch.equal(Consensus().tensor(SLOT, base, [base] * 3, [1] * 3), base)
    assert Consensus().explain(SLOT, base, [base] * 2, [1, 1]) == {"scale": 1.0, "kept": 0.0, "selfish": 0.0}


def test_the_order_of_the_models_does_not_matter() -> None:
    base, models = random(40, 30), [random(40, 30, seed=seed) for seed in (1, 2, 3)]
    one, other = Consensus().tensor(SLOT, base, models, [1, 2, 3]), Consensus().tensor(SLOT, base, models[::-1], [3, 2, 1])
    assert torch.allclose(one, other, rtol=2**-22, atol=1e-8)


def test_lines_stands_on_top_of_it() -> None:
    base, models = random(6, 5), [random(6, 5, seed=seed) for seed in (1, 2)]
    plain = Consensus().tensor(SLOT, base, models, [1, 1]) - base
    for depth, scale in ((0.0, 0.2), (0.5, 0.6), (None, 0.2)):
        found = Consensus(scale=0.2, deeper=0.8).tensor(replace(SLOT, depth=depth), base, models, [1, 1]) - base
        assert torch.allclose(found, scale * plain, atol=1e-6)


def test_it_needs_two_models_and_no_more_agreement_than_there_are() -> None:
    assert "at least 2 tuned models" in Consensus().mistakes([1.0])[0] and len(Consensus(needed=5).mistakes([1.0])) == 1
    assert Consensus().mistakes([1, 1]) == [] and Consensus(needed=3).mistakes([1, 1, 1]) == []
    assert Consensus(needed=3).mistakes([1, 1]) == [
        "No number can be needed by 3 models, because the spec names 2, so the base would be all that is left. Set `needed` to 2 or less."
    ]
