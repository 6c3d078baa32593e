"""The shared subspace: planted ones are found whatever the scales, the order and the basis; the small matrices do what the large would."""

import pytest
import torch
from torch import Tensor

from workbench.materials.lora import Factors
from workbench.materials.subspace import STEPS, Shared, balance, parted, shared

OUT, INTO = 40, 30


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def planted(count: int, rank: int, strangers: tuple[int, ...] = (), seed: int = 0) -> tuple[list[Factors], Tensor]:
    """Changes of one subspace, but for some of their own ones, and its basis."""
    basis = torch.linalg.qr(random(OUT, rank, seed=seed)).Q
    found = []
    for number in range(count):
        inside, own = basis @ random(rank, rank, seed=1000 * seed + number), random(OUT, rank, seed=1000 * seed + 500 + number)
        found.append(Factors(own if number in strangers else inside, random(rank, INTO, seed=1000 * seed + 900 + number)))
    return found, basis


def flagged(found: Shared, threshold: float = 0.5) -> list[int]:
    return [place for place, score in enumerate(found.scores) if score > threshold]


def away(found: Shared, basis: Tensor) -> float:
    """‖(I − UUᵀ)U₀‖."""
    return float((basis - found.inside(basis)).norm())


def dense(changes: list[Factors]) -> list[Tensor]:
    return [change.left @ change.right for change in changes]


def turned(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(random(size, size, seed=seed)).Q


# What is planted is found.


def test_identical_changes_are_all_inside() -> None:
    (change, *_), _ = planted(1, 4)
    for count in (3, 7):
        found = shared([change] * count)
        assert max(found.scores) < 1e-7 and found.basis.shape == (OUT, 4)
        assert torch.allclose(found.inside(change.left), change.left, atol=1e-9)


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_one_stranger_among_seven_is_found_and_nobody_else(place: int, rank: int) -> None:
    changes, basis = planted(7, rank, (place,), seed=rank)
    found = shared(changes)
    assert flagged(found) == [place] and found.scores[place] > 0.9
    assert max(score for number, score in enumerate(found.scores) if number != place) < 1e-5 and away(found, basis) < 1e-5


def test_without_noise_the_subspace_and_the_strangers_are_recovered() -> None:
    changes, basis = planted(12, 3, (2, 7, 9))
    found = shared(changes)
    assert flagged(found) == [2, 7, 9] and found.basis.shape == (OUT, 3) and found.moving == 12
    assert away(found, basis) <= 1e-6
    assert torch.allclose(found.basis.T @ found.basis, torch.eye(3).double(), atol=1e-12)


def test_a_stranger_may_have_full_rank() -> None:
    changes, basis = planted(12, 3, (2, 7, 9))
    for place in (2, 7, 9):
        changes[place] = Factors(2 * random(OUT, INTO, seed=place), torch.eye(INTO).double())
    found = shared(changes)
    assert flagged(found) == [2, 7, 9] and away(found, basis) <= 1e-6


@pytest.mark.parametrize(("count", "rank", "strangers"), [(8, 4, (1, 5)), (6, 8, (0,)), (5, 4, (0, 3)), (4, 4, ())])
def test_the_projects_own_cases_with_noise_are_told_apart(count: int, rank: int, strangers: tuple[int, ...]) -> None:
    changes, _ = planted(count, rank, strangers, seed=5)
    noisy = []
    for number, change in enumerate(dense(changes)):
        noise = random(OUT, INTO, seed=70 + number)
        noisy.append(Factors(change / change.norm() + 0.1 * noise / noise.norm(), torch.eye(INTO).double()))
    noisy = [Factors(*(u[:, :rank] * s[:rank], v[:rank])) for u, s, v in (torch.linalg.svd(one.left, full_matrices=False) for one in noisy)]
    found = shared(noisy)
    members = [score for number, score in enumerate(found.scores) if number not in strangers]
    assert flagged(found) == list(strangers) and max(members) < 0.2 and min([1.0, *(found.scores[n] for n in strangers)]) > 0.8


def test_strangers_alone_share_nothing() -> None:
    own = torch.linalg.qr(random(OUT, 12, seed=1)).Q.split(2, 1)
    found = shared([Factors(left, random(2, INTO, seed=2 + number)) for number, left in enumerate(own)])
    assert found.scores == pytest.approx([1.0] * 6) and max(found.scores) <= 1 and found.basis.shape == (OUT, 0)


def test_it_has_as_many_directions_as_most_of_them() -> None:
    changes, _ = planted(7, 3)
    noisy = [Factors(change.left + 0.05 * random(OUT, 3, seed=number), change.right) for number, change in enumerate(changes)]
    noisy[4] = Factors(random(OUT, 12, seed=8), random(12, INTO, seed=9))
    found = shared(noisy)
    assert found.basis.shape == (OUT, 3) and flagged(found) == [4]


# What makes no difference.


def test_scales_make_no_difference() -> None:
    changes, _ = planted(7, 3, (4,))
    scaled = [Factors(change.left * 10.0 ** (3 * number - 9), change.right) for number, change in enumerate(changes)]
    one, other = shared(changes), shared(scaled)
    assert one.scores == pytest.approx(other.scores, abs=1e-9) and away(other, one.basis) < 1e-9


def test_the_order_goes_with_the_scores_and_makes_no_other_difference() -> None:
    changes, _ = planted(7, 3, (4,))
    one, other = shared(changes), shared(changes[::-1])
    assert one.scores == pytest.approx(other.scores[::-1], abs=1e-9) and away(other, one.basis) < 1e-9


def test_another_basis_of_what_comes_out_or_goes_in_makes_no_difference() -> None:
    changes, _ = planted(7, 3, (4,))
    left, right = turned(OUT, 1), turned(INTO, 2)
    one, other = shared(changes), shared([Factors(left @ change.left, change.right @ right) for change in changes])
    assert one.scores == pytest.approx(other.scores, abs=1e-9) and away(other, left @ one.basis) < 1e-9


def test_how_a_change_is_written_as_factors_makes_no_difference() -> None:
    changes, _ = planted(7, 3, (4,))
    halved = [Factors(torch.cat([change.left, change.left], 1) / 2, torch.cat([change.right] * 2)) for change in changes]
    one, other = shared(changes), shared(halved)
    assert one.scores == pytest.approx(other.scores, abs=1e-9) and other.basis.shape == one.basis.shape and away(other, one.basis) < 1e-9


# The small matrices and the large.


@pytest.mark.parametrize("strangers", [(), (4,), (1, 4)])
def test_the_small_matrices_are_taken_apart_as_the_large_ones_would_be(strangers: tuple[int, ...]) -> None:
    changes, _ = planted(6, 3, strangers)
    blocks = [change / change.norm() for change in dense(changes)]
    low, sparse = parted(blocks, balance(3, 6))
    basis = torch.linalg.svd(low).U[:, :3]
    found = shared(changes)
    scores = [float((block - basis @ (basis.T @ block)).norm()) for block in blocks]
    assert found.scores == pytest.approx(scores, abs=1e-7) and away(found, basis) < 1e-7
    assert torch.allclose(low + sparse, torch.cat(blocks, 1), atol=1e-6)


def test_what_is_taken_apart_is_low_and_sparse_and_no_other_way_costs_less() -> None:
    """The cost of a neighbour L + εD, S − εD is never lower; by hand, with singular values and norms."""
    changes, _ = planted(6, 2, (4,))
    blocks, gamma = [change / change.norm() for change in dense(changes)], balance(2, 6)
    low, sparse = parted(blocks, gamma)

    def cost(one: Tensor, other: Tensor) -> float:
        return float(torch.linalg.svdvals(one).sum() + gamma * sum(part.norm() for part in other.split(INTO, 1)))

    for number in range(40):
        step = random(OUT, 6 * INTO, seed=number)
        step *= 1e-2 / step.norm()
        assert cost(low + step, sparse - step) >= cost(low, sparse) - 1e-6
    for block in range(6):  # one change from one side to the other
        step = torch.zeros_like(low)
        step[:, block * INTO : (block + 1) * INTO] = 0.1 * (sparse if block == 4 else low)[:, block * INTO : (block + 1) * INTO]
        step = step if block == 4 else -step
        assert cost(low + step, sparse - step) > cost(low, sparse)
    assert (
        int((torch.linalg.svdvals(low) > 1e-5).sum()) == 2 and [bool(part.norm() > 1e-5) for part in sparse.split(INTO, 1)].index(True) == 4
    )


# Little to go by.


def test_a_change_of_zero_is_inside_and_counts_for_nothing() -> None:
    changes, _ = planted(6, 3, (4,))
    still = [Factors(torch.zeros(OUT, 3).double(), changes[0].right), Factors(torch.zeros(OUT, 0).double(), torch.zeros(0, INTO).double())]
    cancelled = Factors(torch.cat([changes[0].left, -changes[0].left], 1), torch.cat([changes[0].right] * 2))
    one, other = shared(changes), shared([still[0], *changes, still[1], cancelled])
    assert other.scores == pytest.approx([0, *one.scores, 0, 0], abs=1e-9) and other.moving == one.moving == 6


@pytest.mark.parametrize("count", [1, 2])
def test_of_fewer_than_three_nothing_is_told(count: int) -> None:
    changes, _ = planted(count, 3, (0,))
    still = Factors(torch.zeros(OUT, 3).double(), changes[0].right)
    found = shared([*changes, still, still])
    assert found.scores == (0.0,) * (count + 2) and found.moving == count and found.basis.shape == (OUT, 0)
    assert torch.equal(found.inside(changes[0].left), torch.zeros(OUT, 3).double())


def test_matrices_smaller_than_the_ranks_together_will_do() -> None:
    changes = [Factors(change.left[:5], change.right[:, :4]) for change in planted(7, 3)[0]]
    found = shared(changes)
    assert all(0 <= score <= 1 for score in found.scores) and found.basis.shape[0] == 5


def test_it_ends() -> None:
    """Even where nothing comes near: no more than `STEPS` rounds, and finite."""
    blocks = [random(8, 3, seed=number) for number in range(4)]
    assert STEPS == 300 and all(torch.isfinite(part).all() for part in parted(blocks, 1e-3) + parted(blocks, 1e3))
