"""Composable sparse fine-tuning (arXiv:2110.07560): the algebra of LT-SFT, which numbers are kept, and who touches whose."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workbench.materials.slot import cuts_of
from workbench.methods.contracts import Slot
from workbench.methods.merges.composable import Composable
from workbench.methods.merges.task_arithmetic import TaskArithmetic

SLOT = Slot("model.layers.1.mlp.up_proj.weight", 0.5, 1, 3)
ZERO = torch.zeros(5)
ONE, TWO = torch.tensor([4.0, 1.0, -2.0, 0.5, 0.0]), torch.tensor([-3.0, 0.0, 0.25, 5.0, 1.0])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_largest_changes_of_each_are_added_by_hand() -> None:
    assert Composable(share=0.4).tensor(SLOT, ZERO, [ONE, TWO], [1, 1]).tolist() == [1, 0, -2, 5, 0]
    assert Composable(share=0.4).tensor(SLOT, ZERO, [ONE, TWO], [1, 2]).tolist() == [-2, 0, -2, 10, 0]
    assert Composable(share=0.4, scale=0.5).tensor(SLOT, ZERO, [ONE, TWO], [1, -1]).tolist() == [3.5, 0, -1, -2.5, 0]
    assert Composable(share=0.4).explain(SLOT, ZERO, [ONE, TWO], [1, 1]) == pytest.approx({"scale": 1, "kept": 0.6, "shared": 0.2})


def test_of_everything_it_is_task_arithmetic() -> None:
    base, models = random(30, 20), [random(30, 20, seed=seed) for seed in (1, 2)]
    ours = Composable(share=1.0, scale=0.7).tensor(SLOT, base, models, [1, 0.5])
    assert torch.allclose(ours, TaskArithmetic(scale=0.7).tensor(SLOT, base, models, [1, 0.5]), rtol=2**-22, atol=1e-8)


def test_so_many_are_kept_and_as_large_ones_with_them() -> None:
    base, model = random(40, 50), random(40, 50, seed=1)
    for share in (1e-4, 0.01, 0.3, 0.9):
        moved = Composable(share=share).tensor(SLOT, base, [model], [1]) != base
        count = max(1, int(share * 2000))
        assert set(moved.flatten().nonzero().flatten().tolist()) == set((model - base).abs().flatten().topk(count).indices.tolist())
    equal = torch.tensor([1.0, -1.0, 1.0, 2.0, 0.5])
    assert Composable(share=0.4).tensor(SLOT, ZERO, [equal], [1]).tolist() == [1, -1, 1, 2, 0]


def test_a_model_that_was_tuned_sparsely_comes_through_whole() -> None:
    base, model = random(30, 20), random(30, 20)
    model[::10, ::5] += random(3, 4, seed=1)  # 12 of 600
    for share in (0.02, 0.5):
        assert torch.equal(Composable(share=share).tensor(SLOT, base, [model], [1]), model)
    assert not torch.equal(Composable(share=0.01).tensor(SLOT, base, [model], [1]), model)


def test_where_they_do_not_meet_each_is_left_as_it_is_and_adding_commutes() -> None:
    base, one, two = random(30, 20), random(30, 20), random(30, 20)
    one[:10], two[10:20] = 5 + random(10, 20, seed=1), 5 + random(10, 20, seed=2)
    merge = Composable(share=1 / 3)
    merged = merge.tensor(SLOT, base, [one, two], [1, 1])
    assert torch.equal(merged[:10], one[:10]) and torch.equal(merged[10:20], two[10:20]) and torch.equal(merged[20:], base[20:])
    assert torch.equal(merged, merge.tensor(SLOT, base, [two, one], [1, 1]))
    assert merge.explain(SLOT, base, [one, two], [1, 1])["shared"] == 0


def test_the_share_is_counted_over_the_whole_model() -> None:
    """A tenth of 60 numbers of each: the first moved in one tensor, the second in the other."""
    bases = [torch.zeros(6, 5), torch.zeros(5, 6)]
    near, far = random(6, 5, seed=1).clamp(-2, 2), 30 + random(5, 6, seed=2)
    models = [[near, near + 30], [far, far - 30]]
    merge = Composable(share=0.1)
    assert merge.across()
    blocks = list(zip(bases, models, strict=True))
    cuts = cuts_of(merge, lambda: (merge.sizes(SLOT, base, tuned, [1, 1]) for base, tuned in blocks))
    assert len(cuts) == 2
    slot = Slot("x", 0.0, 0, 3, cuts=cuts)
    for place, (base, tuned) in enumerate(blocks):
        changed = merge.tensor(slot, base, tuned, [1, 1])
        assert int((changed != 0).sum()) == 6 and torch.isin(changed[changed != 0], tuned[1 - place]).all()


def test_a_model_that_did_not_move_adds_nothing() -> None:
    base, model = random(8, 6), random(8, 6, seed=1)
    alone = Composable(share=0.1).tensor(SLOT, base, [model], [1])
    assert torch.equal(Composable(share=0.1).tensor(SLOT, base, [model, base], [1, 1]), alone)
    assert torch.equal(Composable().tensor(SLOT, base, [base, base], [1, 1]), base)
    assert Composable().explain(SLOT, base, [base, base], [1, 1]) == {"scale": 1.0, "kept": 0.0, "shared": 0.0}


def test_blocks_of_rows_make_the_whole() -> None:
    base, models = random(9, 7), [random(9, 7, seed=seed) for seed in (1, 2)]
    merge = Composable(share=0.3)
    known = merge.known(SLOT, base, models, [1, 1])
    parts = [merge.tensor(known, base[a : a + 2], [model[a : a + 2] for model in models], [1, 1]) for a in range(0, 9, 2)]
    assert torch.equal(torch.cat(parts), merge.tensor(SLOT, base, models, [1, 1]))


def test_lines_stands_on_top_of_it() -> None:
    base, models = random(6, 5), [random(6, 5, seed=seed) for seed in (1, 2)]
    plain = Composable(share=0.3).tensor(SLOT, base, models, [1, 1]) - base
    for depth, scale in ((0.0, 0.2), (0.5, 0.6), (None, 0.2)):
        found = Composable(share=0.3, scale=0.2, deeper=0.8).tensor(replace(SLOT, depth=depth), base, models, [1, 1]) - base
        assert torch.allclose(found, scale * plain, atol=1e-6)
