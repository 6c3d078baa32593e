"""Grafting (arXiv:2302.06600): which numbers are taken, of a tensor and of a whole model, bit for bit, and what goes back to the base."""

import pytest
import torch
from torch import Tensor

from workbench.materials.slot import cuts_of
from workbench.methods.contracts import Slot
from workbench.methods.merges.grafting import Grafting

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
BASE = torch.zeros(5)
MODEL = torch.tensor([3.0, -5.0, 0.0, 1.0, -2.0])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("share", "largest", "smallest"),
    [
        (0.1, [0, -5, 0, 0, 0], [0, 0, 0, 0, 0]),
        (0.2, [0, -5, 0, 0, 0], [0, 0, 0, 0, 0]),
        (0.4, [3, -5, 0, 0, 0], [0, 0, 0, 1, 0]),
        (0.6, [3, -5, 0, 0, -2], [0, 0, 0, 1, -2]),
        (0.99, [3, -5, 0, 1, -2], [3, 0, 0, 1, -2]),
        (1.0, [3, -5, 0, 1, -2], [3, -5, 0, 1, -2]),
    ],
)
def test_the_share_is_taken_by_hand(share: float, largest: list[float], smallest: list[float]) -> None:
    assert Grafting(share=share).tensor(SLOT, BASE, [MODEL], [1]).tolist() == largest
    assert Grafting(share=share, smallest=True).tensor(SLOT, BASE, [MODEL], [1]).tolist() == smallest


@pytest.mark.parametrize("share", [1e-4, 0.01, 0.3, 0.9])
def test_so_many_are_taken_and_they_are_the_largest(share: float) -> None:
    base, model = random(40, 50), random(40, 50, seed=1)
    taken = Grafting(share=share).tensor(SLOT, base, [model], [1]) != base
    count = max(1, int(share * 2000))
    assert int(taken.sum()) == count
    assert set(taken.flatten().nonzero().flatten().tolist()) == set((model - base).abs().flatten().topk(count).indices.tolist())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_the_smallest_are_as_many_and_all_smaller_than_the_rest(share: float) -> None:
    base, model = random(7, 9), random(7, 9, seed=1)
    smallest = Grafting(share=share, smallest=True).tensor(SLOT, base, [model], [1]) != base
    assert int(smallest.sum()) == int(share * 63)
    sizes = (model - base).abs()
    assert float(sizes[smallest].max()) < float(sizes[~smallest].min())


def test_what_is_taken_is_taken_bit_for_bit_and_the_rest_is_the_base() -> None:
    base, model = random(30, 20) * 1e6, random(30, 20, seed=1) * 1e-6
    for merge in (Grafting(share=0.3, of="tensor"), Grafting(share=0.3, smallest=True)):
        merged = merge.tensor(SLOT, base, [model], [1])
        assert ((merged == base) | (merged == model)).all() and (merged == base).any() and (merged == model).any()
    assert torch.equal(Grafting(share=1).tensor(SLOT, base, [model], [1]), model)


def test_equal_sizes_are_taken_together() -> None:
    model = torch.tensor([1.0, -1.0, 1.0, 2.0, 0.5])
    assert Grafting(share=0.4).tensor(SLOT, BASE, [model], [1]).tolist() == [1, -1, 1, 2, 0]
    assert Grafting(share=0.4, smallest=True).tensor(SLOT, BASE, [model], [1]).tolist() == [0, 0, 0, 0, 0.5]


def test_where_fewer_moved_than_are_taken_all_that_moved_is_taken() -> None:
    model = torch.tensor([0.0, 0.0, 7.0, 0.0, 0.0])
    assert torch.equal(Grafting(share=0.8).tensor(SLOT, BASE, [model], [1]), model)
    assert torch.equal(Grafting(share=0.5, smallest=True).tensor(SLOT, BASE, [model], [1]), BASE)
    for merge in (Grafting(), Grafting(smallest=True)):
        assert torch.equal(merge.tensor(SLOT, MODEL, [MODEL.clone()], [1]), MODEL)


def test_a_share_of_the_model_is_counted_over_all_its_tensors() -> None:
    """A tenth of 60 numbers: six, all of them in the second tensor, which moved ten times as far."""
    bases = [torch.zeros(6, 5), torch.zeros(5, 6)]
    models = [random(6, 5, seed=1).clamp(-2, 2), 30 + random(5, 6, seed=2)]
    merge = Grafting(share=0.1)
    assert merge.across() and not Grafting(share=0.1, of="tensor").across()
    cuts = cuts_of(merge, lambda: (merge.sizes(SLOT, base, [model], [1]) for base, model in zip(bases, models, strict=True)))
    slot = Slot("x", 0.0, 0, 3, cuts=cuts)
    taken = [int((merge.tensor(slot, base, [model], [1]) != 0).sum()) for base, model in zip(bases, models, strict=True)]
    assert taken == [0, 6]
    each = [int((merge.tensor(SLOT, base, [model], [1]) != 0).sum()) for base, model in zip(bases, models, strict=True)]
    assert each == [3, 3], "of each tensor, where the slot knows no cut"


def test_blocks_of_rows_make_the_whole() -> None:
    base, model = random(9, 7), random(9, 7, seed=1)
    for merge in (Grafting(share=0.2), Grafting(share=0.2, smallest=True), Grafting(share=1)):
        known = merge.known(SLOT, base, [model], [1])
        parts = [merge.tensor(known, base[a : a + 2], [model[a : a + 2]], [1]) for a in range(0, 9, 2)]
        assert torch.equal(torch.cat(parts), merge.tensor(SLOT, base, [model], [1]))


def test_what_is_told_by_hand() -> None:
    base = torch.tensor([2.0, 0, 0, 0, 0])
    numbers = Grafting(share=0.4).explain(SLOT, base, [base + MODEL], [1])
    assert numbers == pytest.approx({"moved": 0.8, "taken": 0.4, "relative": 39**0.5 / 2})
    assert Grafting(share=1).explain(SLOT, base, [base + MODEL], [1])["taken"] == pytest.approx(0.8), "what did not move is not taken"
    assert Grafting().explain(SLOT, BASE, [BASE], [1]) == {"moved": 0.0, "taken": 0.0, "relative": 0.0}


def test_it_takes_one_model_without_a_weight() -> None:
    assert Grafting().mistakes([1.0]) == []
    assert "at most 1 tuned model," in Grafting().mistakes([1.0, 1.0])[0]
    assert Grafting().mistakes([0.5]) == [
        "Grafting takes numbers over as they are, so its model has no weight. Set the weight to 1, or choose another method."
    ]
