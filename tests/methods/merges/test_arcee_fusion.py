"""Arcee Fusion: the bound by hand, what mergekit's formula gives, exactness beyond its sample, one model and two."""

import pytest
import torch
from torch import Tensor

from workbench.materials.slot import cuts_of
from workbench.methods.contracts import Slot
from workbench.methods.merges.arcee_fusion import ArceeFusion, _importance

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
MERGE = ArceeFusion()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mergekit(base: Tensor, model: Tensor) -> Tensor:
    """Its formula for tensors of up to a million numbers, in double precision."""
    a, b = base.double(), model.double()
    p, q = b.softmax(-1) + 1e-8, a.softmax(-1) + 1e-8
    importance = (b - a).abs() * (p * (p / q).log()).sum(-1).unsqueeze(-1)
    ordered = importance.flatten().sort().values
    low, median, high = (ordered[int(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75))
    return (a + (b - a) * (importance >= median + 1.5 * (high - low)).double()).float()


@pytest.mark.parametrize("shape", [(40, 30), (7, 3), (11,), (1, 5), (4, 3, 5)])
def test_it_is_mergekits(shape: tuple[int, ...]) -> None:
    base, model = random(*shape), random(*shape, seed=1)
    assert torch.allclose(MERGE.tensor(SLOT, base, [model], [1]), mergekit(base, model), rtol=0, atol=1e-7)


def test_the_bound_by_hand() -> None:
    """Ten importances 1 … 9 and 100: quartiles 3, 5 and 7 at the places 2, 4 and 6, so the bound is 5 + 6 and only 100 is above it."""
    assert MERGE.ranks([(10, 9)]) == [[8, 6, 4]]
    sizes = torch.tensor([9.0, 8, 100, 1, 2, 3, 4, 5, 6, 7])
    cuts = cuts_of(MERGE, lambda: iter([[sizes]]))
    assert cuts == ((3.0, 5.0, 7.0),)
    assert MERGE.ranks([(1, 1)]) == [[1, 1, 1]]
    base, model = torch.zeros(1, 2), torch.tensor([[0.0, 2.0]])
    importance = _importance(base, model)
    bound = float(importance[0, 1])
    for least, taken in ((bound, 0.5), (bound * 1.001, 0.0)):
        assert MERGE.explain(Slot("x", 0.0, 0, 2, cuts=((least, least, least),)), base, [model], [1])["kept"] == taken
    assert MERGE.explain(Slot("x", 0.0, 0, 2, cuts=((0, bound / 4, bound / 2),)), base, [model], [1])["kept"] == 0.5, "¼ + 1.5·½ = 1"
    assert MERGE.explain(Slot("x", 0.0, 0, 2, cuts=((0, bound / 4, 0.51 * bound),)), base, [model], [1])["kept"] == 0


def test_what_is_taken_is_taken_bit_for_bit_and_the_rest_stays() -> None:
    base, model = 1e6 * random(50, 40), random(50, 40, seed=1)
    merged = MERGE.tensor(SLOT, base, [model], [1])
    taken = merged == model
    assert bool(torch.where(taken, True, merged == base).all()) and 0 < float(taken.double().mean()) < 0.25
    told = MERGE.explain(SLOT, base, [model], [1])
    assert told["kept"] == pytest.approx(float(taken.double().mean())) and told["changed"] == 1 and told["divergence"] > 0


def test_a_tensor_that_hardly_changed_is_taken_whole() -> None:
    base = random(20, 10)
    model = base.clone()
    model[3, 4] += 1
    assert torch.equal(MERGE.tensor(SLOT, base, [model], [1]), model)
    assert MERGE.explain(SLOT, base, [model], [1])["changed"] == 1 / 200
    assert torch.equal(MERGE.tensor(SLOT, base, [base], [1]), base)


def test_rows_that_changed_little_have_no_negative_importance() -> None:
    base = random(200, 8)
    (importance,) = MERGE.sizes(SLOT, base, [base + 1e-7 * random(200, 8, seed=1)], [1])
    assert importance.dtype == torch.float32 and float(importance.min()) >= 0


def test_of_two_models_the_first_stands_for_the_base() -> None:
    base, one, two = random(6, 5), random(6, 5, seed=1), random(6, 5, seed=2)
    ours = MERGE.tensor(SLOT, base, [one, two], [1, 1])
    assert torch.equal(ours, MERGE.tensor(SLOT, one, [two], [1])) and not torch.equal(ours, MERGE.tensor(SLOT, two, [one], [1]))


def test_it_takes_one_model_or_two_and_no_weights() -> None:
    assert MERGE.mistakes([1]) == MERGE.mistakes([1, 1]) == [] and ArceeFusion.ordered
    assert "at most 2" in MERGE.mistakes([1, 1, 1])[0] and "has no weights" in MERGE.mistakes([1, 2])[0]
