"""Changes as factors: sums are exact, cuts are the nearest, and what is lost is what is told."""

import pytest
import torch
from torch import Tensor

from workbench.materials.factors import added, cut, cut_dense, half_weights, halves
from workbench.materials.lora import Factors


def factors(seed: int, rows: int = 30, columns: int = 20, rank: int = 4) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
    return Factors(left, torch.randn(rank, columns, generator=generator, dtype=torch.float64))


def change(pair: Factors) -> Tensor:
    return pair.left @ pair.right


def nearest(whole: Tensor, rank: int) -> tuple[Tensor, float]:
    """The best cut by a dense decomposition, and the share of the energy it loses."""
    u, sizes, v = torch.linalg.svd(whole.double(), full_matrices=False)
    return (u[:, :rank] * sizes[:rank]) @ v[:rank], float(sizes[rank:].square().sum() / sizes.square().sum())


def test_a_sum_by_hand() -> None:
    one = Factors(torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[3.0, 0.0]]).double())
    two = Factors(torch.tensor([[0.0], [1.0]]).double(), torch.tensor([[1.0, 1.0]]).double())
    found = added([(2.0, one), (-1.0, two)])
    assert change(found).tolist() == [[6.0, 0.0], [11.0, -1.0]] and found.left.tolist() == [[2.0, 0.0], [4.0, -1.0]]


def test_a_sum_is_exact_for_any_ranks_and_has_no_room_for_nothing() -> None:
    parts = [(0.7, factors(1)), (-0.3, factors(2, rank=7)), (0.0, factors(3))]
    found = added(parts)
    assert found.right.shape == (11, 20)
    assert torch.allclose(change(found), sum(share * change(pair) for share, pair in parts), rtol=0, atol=1e-13)
    nothing = added([(0.0, factors(1)), (0.0, factors(2))])
    assert change(nothing).abs().max() == 0 and nothing.right.shape[0] == 4, "something must be there to be written"


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (6, 40), (40, 6)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_cut_is_that_of_a_dense_decomposition(shape: tuple[int, int], rank: int) -> None:
    whole = added([(1.0, factors(1, *shape)), (0.5, factors(2, *shape, rank=5))])
    best, lost = nearest(change(whole), rank)
    found = cut(whole, rank)
    assert found.rank == rank and torch.allclose(change(found.factors), best, rtol=0, atol=1e-12)
    assert found.lost == pytest.approx(lost, rel=1e-9, abs=1e-15)
    assert found.energy == pytest.approx(float(change(whole).square().sum()), rel=1e-12)


def test_a_cut_that_is_wide_enough_loses_nothing_and_has_no_idle_directions() -> None:
    whole = added([(1.0, factors(1)), (1.0, factors(2, rank=3))])
    found = cut(whole, 50)
    assert (found.rank, found.lost) == (7, 0.0) and torch.allclose(change(found.factors), change(whole), rtol=0, atol=1e-12)
    twice = cut(added([(1.0, factors(1)), (0.5, factors(1))]), 8)
    assert twice.rank == 4 and torch.allclose(change(twice.factors), 1.5 * change(factors(1)), rtol=0, atol=1e-12)


def test_what_cancels_is_nothing_and_loses_nothing() -> None:
    found = cut(added([(1.0, factors(1)), (-1.0, factors(1))]), 2)
    assert found.rank == 1 and change(found.factors).abs().max() < 1e-13 and (found.energy, found.lost) == (0.0, 0.0)


def test_both_factors_of_a_cut_are_as_large() -> None:
    found = cut(added([(1.0, factors(1)), (1e-6, factors(2))]), 6).factors
    assert torch.allclose(found.left.norm(dim=0), found.right.norm(dim=1), rtol=1e-9)


# A change that is not low-rank.


def trimmed(rows: int = 90, columns: int = 70) -> Tensor:
    whole = change(added([(1.0, factors(1, rows, columns)), (0.7, factors(2, rows, columns))]))
    return torch.where(whole.abs() > whole.abs().median(), whole, 0.0).float()


@pytest.mark.parametrize("rank", [2, 8, 20])
def test_a_dense_change_is_cut_nearly_as_well_as_can_be_and_the_loss_is_measured(rank: int) -> None:
    whole = trimmed()
    best, lost = nearest(whole, rank)
    found = cut_dense([whole], rank)
    gone = float((whole - change(found.factors)).square().sum() / whole.double().square().sum())
    assert found.rank == rank and found.lost == pytest.approx(gone, rel=1e-9)
    assert lost * (1 - 1e-9) <= found.lost <= 1.01 * lost
    assert float((change(found.factors) - best).norm() / best.norm()) < 0.02


def test_a_dense_change_of_low_rank_is_found_whole() -> None:
    whole = change(factors(1, 90, 70))
    found = cut_dense([whole], 4)
    assert torch.allclose(change(found.factors), whole, rtol=0, atol=1e-12) and found.lost == pytest.approx(0, abs=1e-14)
    assert cut_dense([whole], 12).rank == 4


@pytest.mark.parametrize("sizes", [[1] * 90, [13, 40, 37], [89, 1]])
def test_other_blocks_change_rounding_alone(sizes: list[int]) -> None:
    whole = trimmed()
    one, other = cut_dense([whole], 6), cut_dense(list(whole.split(sizes)), 6)
    assert torch.allclose(change(one.factors), change(other.factors), rtol=0, atol=1e-12)
    assert (other.lost, other.energy) == (pytest.approx(one.lost, rel=1e-10), pytest.approx(one.energy, rel=1e-12))


def test_it_comes_out_the_same_again_whatever_was_drawn_before() -> None:
    first = cut_dense([trimmed()], 6).factors
    torch.manual_seed(7)
    again = cut_dense([trimmed()], 6).factors
    assert torch.equal(first.left, again.left) and torch.equal(first.right, again.right)


def test_no_change_at_all_is_cut_to_nothing() -> None:
    found = cut_dense([torch.zeros(30, 20)], 3)
    assert found.rank == 1 and change(found.factors).abs().max() == 0 and (found.energy, found.lost) == (0.0, 0.0)


# A and B apart.


@pytest.mark.parametrize("scale", [2.25, -4.0, 0.0])
def test_halves_share_the_scale_and_give_the_change(scale: float) -> None:
    plain = factors(1)
    right, left = halves(Factors(plain.left * scale, plain.right, scale))
    assert torch.allclose(left @ right, scale * change(plain), rtol=0, atol=1e-12)
    if scale:
        assert torch.allclose(left, plain.left * abs(scale) ** 0.5) and torch.allclose(right.abs(), plain.right.abs() * abs(scale) ** 0.5)


def test_half_weights_are_roots_whose_sign_is_on_one_side() -> None:
    assert half_weights([4.0, -0.25, 0.0]) == ([2.0, -0.5, 0.0], [2.0, 0.5, 0.0])
