"""CKA: what it does not notice, what it does, and the mean beside the diagonal."""

import pytest
import torch

from workbench.materials.cka import alignment, beside


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_rotations_scales_and_shifts_are_not_noticed() -> None:
    states = drawn(0, 40, 6)
    turned, wider = states @ torch.linalg.qr(drawn(1, 6, 6)).Q, torch.cat([states, torch.zeros(40, 3)], 1)
    same = [states, 3 * states, turned, states + drawn(2, 6), wider]
    assert torch.allclose(alignment(same), torch.ones(5, 5).double())


def test_what_has_nothing_to_do_with_one_another_is_far_apart() -> None:
    table = alignment([drawn(0, 500, 4), drawn(1, 500, 4), torch.ones(500, 4)])
    assert torch.equal(table, table.T) and table[0, 1] < 0.05 and table[0, 0] == pytest.approx(1)
    assert (table[2] == 0).all(), "a layer that says the same of all rows is like no other"


def test_a_worked_example() -> None:
    """Of three rows on a line, and of the same with one of them moved."""
    one, other = torch.tensor([[0.0], [1], [2]]), torch.tensor([[0.0], [2], [1]])
    assert alignment([one, other])[0, 1] == pytest.approx(0.25), "for lines it is the square of the correlation"


def test_beside_is_the_mean_with_the_neighbours() -> None:
    table = torch.tensor([[1.0, 0.9, 0.1], [0.9, 1.0, 0.5], [0.1, 0.5, 1.0]])
    assert torch.allclose(beside(table), torch.tensor([0.9, 0.7, 0.5]))
    assert beside(torch.ones(2, 2)).tolist() == [1.0, 1.0] and torch.equal(beside(torch.ones(1, 1)), torch.zeros(1))
