"""CKA: what it does not notice, what it does, and the mean beside the diagonal."""

import pytest
import torch

from workbench.materials.cka import alignment, beside, gaussian, without_strongest


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


# Other kernels.


def test_the_gaussian_kernel_worked_out() -> None:
    """Of rows at 0, 1 and 3: distances 1, 2 and 3, their median 2."""
    found, near, far = gaussian(torch.tensor([[0.0], [1], [3]])), torch.exp(torch.tensor(-1 / 8)), torch.exp(torch.tensor(-9 / 8))
    middle = torch.exp(torch.tensor(-0.5))
    assert torch.allclose(found, torch.tensor([[1, near, far], [near, 1, middle], [far, middle, 1]]).double())


def test_the_gaussian_kernel_does_not_notice_rotations_scales_and_shifts() -> None:
    states = drawn(0, 30, 6)
    for same in (states @ torch.linalg.qr(drawn(1, 6, 6)).Q, 1e-3 * states, 1e3 * states, states + drawn(2, 6)):
        assert torch.allclose(gaussian(same), gaussian(states), atol=1e-5)
    assert not torch.allclose(gaussian(states * torch.tensor([9.0, 1, 1, 1, 1, 1])), gaussian(states), atol=1e-2)
    assert torch.equal(gaussian(torch.ones(4, 3)), torch.ones(4, 4).double()), "rows that are one are as near as can be"
    twins = gaussian(torch.tensor([[0.0], [0], [0], [1]]))
    assert torch.isfinite(twins).all() and twins[0, 1] == 1 and twins[0, 3] == 0, "most rows are one, so the others are far"


def test_without_the_strongest_components_the_others_are_left() -> None:
    axes = torch.linalg.qr(drawn(0, 40, 5)).Q
    axes = torch.linalg.qr(axes - axes.mean(0)).Q  # five directions of rows, each with mean 0
    turn, lengths = torch.linalg.qr(drawn(1, 8, 5)).Q.T, torch.tensor([9.0, 7, 3, 2, 1])
    states = axes @ lengths.diag() @ turn + drawn(2, 8)
    for count in range(5):
        left = lengths.clone()
        left[:count] = 0
        assert torch.allclose(without_strongest(states, count), (axes @ left.diag() @ turn).double(), atol=1e-4)
    assert (without_strongest(states, 5) == 0).all() and (without_strongest(states, 40) == 0).all(), "no rounding passes for a state"
