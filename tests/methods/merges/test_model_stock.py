"""Model Stock (arXiv:2403.19522): the ratio in closed form, its edges, and the geometry it is derived from."""

import math

import pytest
import torch
from torch import Tensor

from workbench.materials.tensors import task_gram
from workbench.methods.contracts import Slot
from workbench.methods.merges.model_stock import ModelStock

SLOT = Slot("model.layers.0.mlp.up_proj.weight", 0.0, 0, 2)
ZERO = torch.zeros(4)
X = torch.tensor([1.0, 0, 0, 0])


def at(degrees: float) -> Tensor:
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0, 0])


def told(base: Tensor, tuned: list[Tensor], merge: ModelStock | None = None) -> dict[str, float]:
    return (merge or ModelStock()).explain(SLOT, base, tuned, [1.0] * len(tuned))


@pytest.mark.parametrize(("degrees", "ratio"), [(0, 1), (60, 2 / 3), (90, 0), (30, 2 * 0.75**0.5 / (1 + 0.75**0.5))])
def test_the_ratio_of_two_models_by_hand(degrees: float, ratio: float) -> None:
    numbers = told(ZERO, [X, at(degrees)])
    assert numbers["ratio"] == pytest.approx(ratio, abs=1e-6) and numbers["angle"] == pytest.approx(degrees, abs=1e-3)
    assert numbers["ratio"] == float(torch.tensor(numbers["ratio"])), "a float32, so that the order of sums is not seen"
    merged = ModelStock().tensor(SLOT, ZERO, [X, at(degrees)], [1, 1])
    assert torch.allclose(merged, ratio * (X + at(degrees)) / 2, atol=1e-6)


def test_three_models_take_the_mean_over_pairs() -> None:
    models = [X, at(60), at(90)]
    cosine = (0.5 + 0 + math.cos(math.radians(30))) / 3
    assert told(ZERO, models)["ratio"] == pytest.approx(3 * cosine / (1 + 2 * cosine), abs=1e-6)


def test_equal_models_give_themselves_and_copies_of_the_base_the_base() -> None:
    torch.manual_seed(0)
    base, model = torch.randn(2, 30, 20)
    for merge in (ModelStock(), ModelStock(filter_wise=True)):
        assert torch.equal(merge.tensor(SLOT, base, [model] * 3, [1] * 3), model)
        assert torch.equal(merge.tensor(SLOT, base, [base] * 3, [1] * 3), base)
        one_moved = merge.tensor(SLOT, base, [model, base], [1, 1])
        assert torch.equal(one_moved, base) and told(base, [model, base], merge)["ratio"] == 0


@pytest.mark.parametrize("size", [1e-12, 1e-4, 1.0, 1e6])
def test_the_ratio_does_not_depend_on_how_far_the_models_moved(size: float) -> None:
    assert told(ZERO, [size * X, size * at(60)])["ratio"] == pytest.approx(2 / 3, abs=1e-6)
    assert told(ZERO, [size * X, size * X])["ratio"] == 1


def test_task_vectors_that_point_apart() -> None:
    apart = [X, at(120)]
    assert told(ZERO, apart)["ratio"] == 0 and torch.equal(ModelStock().tensor(SLOT, ZERO, apart, [1, 1]), ZERO)
    assert told(ZERO, apart, ModelStock(clamp=False))["ratio"] == pytest.approx(-2, abs=1e-5)
    for pole in (-X, at(179.9999)):
        assert told(ZERO, [X, pole], ModelStock(clamp=False))["ratio"] == 0, "the pole of the formula"


def test_filter_wise_has_a_ratio_for_each_row_and_vectors_stay_whole() -> None:
    base = torch.zeros(3, 4)
    one, other = torch.stack([X, X, X]), torch.stack([X, at(60), at(90)])
    rows = ModelStock(filter_wise=True)
    merged = rows.tensor(SLOT, base, [one, other], [1, 1])
    assert torch.allclose(merged, torch.tensor([[1.0], [2 / 3], [0]]) * (one + other) / 2, atol=1e-6)
    assert told(base, [one, other], rows)["ratio"] == pytest.approx((1 + 2 / 3) / 3, abs=1e-6)
    assert told(base, [one, other], rows)["angle"] == pytest.approx(50, abs=1e-2)
    assert told(ZERO, [X, at(60)], rows) == told(ZERO, [X, at(60)])


def test_it_finds_the_centre_better_than_the_mean_does() -> None:
    torch.manual_seed(0)
    base, centre = torch.randn(100_000), torch.randn(100_000)
    models = [base + centre + torch.randn(100_000) for _ in range(2)]
    merged, mean = ModelStock().tensor(SLOT, base, models, [1, 1]), sum(models) / 2
    goal = base + centre
    assert (merged - goal).norm() < (mean - goal).norm()
    best = torch.dot(centre, mean - base) / (mean - base).norm() ** 2  # the projection of the centre on the mean task vector
    assert told(base, models)["ratio"] == pytest.approx(float(best), rel=0.01)
    assert told(base, models)["norm"] == pytest.approx(float((mean - base).norm()), rel=1e-5)


def test_order_does_not_matter_and_blocks_of_rows_make_the_whole() -> None:
    torch.manual_seed(0)
    base, *models = torch.randn(4, 40, 30)
    for merge in (ModelStock(), ModelStock(filter_wise=True)):
        whole = merge.tensor(SLOT, base, models, [1] * 3)
        assert torch.allclose(whole, merge.tensor(SLOT, base, models[::-1], [1] * 3), rtol=2**-22, atol=1e-7)
        known = Slot(SLOT.name, 0.0, 0, 2, gram=task_gram(base, models))
        parts = [merge.tensor(known, base[a : a + 7], [model[a : a + 7] for model in models], [1] * 3) for a in range(0, 40, 7)]
        assert torch.equal(torch.cat(parts), whole)


def test_it_needs_two_models_of_equal_weight() -> None:
    assert "at least 2 tuned models" in ModelStock().mistakes([1.0])[0]
    assert "every model the same share" in ModelStock().mistakes([1.0, 2.0])[0]
    assert ModelStock().mistakes([0.5, 0.5, 0.5]) == []
