"""Task arithmetic (arXiv:2212.04089): sums by hand, exact limits, and LiNeS on top of it."""

import pytest
import torch

from workbench.methods.contracts import Slot
from workbench.methods.merges.lines import LiNeS
from workbench.methods.merges.task_arithmetic import TaskArithmetic

SLOT = Slot("model.layers.2.mlp.up_proj.weight", 0.5, 2, 5)
BASE, A, B = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))


def test_task_vectors_are_added_by_hand() -> None:
    base, a, b = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0]), torch.tensor([1.0, 6.0])
    assert TaskArithmetic(scale=0.5).tensor(SLOT, base, [a, b], [1, 0.5]).tolist() == [1.5, 3.0]
    assert TaskArithmetic().tensor(SLOT, base, [a, b], [-1, 0]).tolist() == [0.0, 2.0]


def test_its_limits_are_exact() -> None:
    assert torch.equal(TaskArithmetic().tensor(SLOT, BASE, [A], [1]), A)
    assert torch.equal(TaskArithmetic(scale=0).tensor(SLOT, BASE, [A, B], [1, 1]), BASE)
    assert torch.equal(TaskArithmetic().tensor(SLOT, BASE, [A, BASE], [1, 0.7]), A)


def test_with_depth_it_is_lines() -> None:
    for depth, layer in ((0.0, 0), (0.5, 2), (1.0, 4), (None, None)):
        slot = Slot("model.layers.0.x.weight", depth, layer, 5)
        deep, lines = TaskArithmetic(scale=0.2, deeper=0.8), LiNeS(alpha=0.2, beta=0.8)
        assert torch.equal(deep.tensor(slot, BASE, [A, B], [0.5, 0.5]), lines.tensor(slot, BASE, [A, B], [0.5, 0.5]))
        assert deep.explain(slot, BASE, [A, B], [0.5, 0.5]) == pytest.approx(lines.explain(slot, BASE, [A, B], [0.5, 0.5]))
