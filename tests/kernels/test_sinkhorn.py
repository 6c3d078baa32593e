"""sinkhorn: worked cases, both limits of the blur, the iterations on the masses themselves, and the ones on rows' embeddings.
The kernel is in `rings/`.
"""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from workbench_kernels import sinkhorn as module
from workbench_kernels.sinkhorn import EVERY, Potentials, plan, reference, sinkhorn, transform

from workbench.core.job import drain
from workbench.materials.transport import potentials

WORKED = torch.tensor([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]], dtype=torch.float64)
"""Who takes 0, the cheapest place, pays 6 in all or more; the best is 1 + 2 + 2. Next comes 3 + 0 + 3, with all three elsewhere."""


def given(*batch: int, m: int = 5, n: int = 7, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Costs between 0 and 1 and two uneven histograms, float64."""
    draw = torch.Generator().manual_seed(seed)
    cost, a, b = (torch.rand(*batch, *shape, generator=draw, dtype=torch.float64) for shape in ((m, n), (m,), (n,)))
    return cost, (a + 0.1) / (a + 0.1).sum(-1, keepdim=True), (b + 0.1) / (b + 0.1).sum(-1, keepdim=True)


def solved(cost: Tensor, a: Tensor, b: Tensor, blur: float) -> tuple[Potentials, Tensor]:
    found = sinkhorn(cost, a, b, blur, 1e-14, 20_000)
    return found, plan(cost, a, b, blur, found)


def even(n: int) -> Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


@pytest.mark.parametrize("blur", [0.1, 1.0, 5.0])
def test_two_places_worked_by_hand(blur: float) -> None:
    """To stay costs 0 and to change places 1, so that staying is exp(1/ε) times as frequent."""
    _, carried = solved(1 - torch.eye(2, dtype=torch.float64), even(2), even(2), blur)
    stays = 0.5 / (1 + math.exp(-1 / blur))
    assert carried.flatten().tolist() == pytest.approx([stays, 0.5 - stays, 0.5 - stays, stays], abs=1e-12)


def test_the_whole_histograms_are_carried() -> None:
    cost, a, b = given(4)
    a[1, 2] = b[2, 0] = 0.0  # places without mass
    a, b = (each / each.sum(-1, keepdim=True) for each in (a, b))
    (f, g), carried = solved(cost, a, b, 0.05)
    assert f.isfinite().all() and g.isfinite().all() and (carried >= 0).all()
    torch.testing.assert_close(carried.sum(-1), a, rtol=0, atol=1e-12)
    torch.testing.assert_close(carried.sum(-2), b, rtol=0, atol=1e-12)
    assert carried[1, 2].sum() == carried[2, :, 0].sum() == 0


def test_it_is_algorithm_1_of_the_paper() -> None:
    """u = a / (K v) and v = b / (Kᵀ u) with K = exp(−C/ε), on numbers where that still works."""
    cost, a, b = given()
    kernel, v = (-cost / 0.2).exp(), torch.ones_like(b)
    for _ in range(2000):
        u = a / (kernel @ v)
        v = b / (kernel.T @ u)
    torch.testing.assert_close(solved(cost, a, b, 0.2)[1], u[:, None] * kernel * v, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("blur", [0.08, 0.06, 0.04])
def test_with_little_blur_it_is_the_best_assignment(blur: float) -> None:
    """The next one costs 1 more with all three places exchanged, so exp(−1/(3ε)) of the mass is off the best."""
    carried = solved(WORKED, even(3), even(3), blur)[1]
    off = 1 - float(carried[torch.arange(3), torch.tensor([1, 0, 2])].sum())
    assert off == pytest.approx(math.exp(-1 / (3 * blur)), rel=0.02)


def test_with_less_it_is_what_the_hungarian_method_finds() -> None:
    """And what it is worth is the assignment's cost and ε·KL, which is ε·log n for an assignment."""
    cost = torch.rand(8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    rows, columns = linear_sum_assignment(cost.numpy())
    (f, g), carried = solved(cost, even(8), even(8), 5e-3)
    assert (8 * carried[rows, columns] > 0.999).all()
    assert float(f.mean() + g.mean()) == pytest.approx(float(cost[rows, columns].mean()) + 5e-3 * math.log(8), abs=1e-4)


def test_with_much_blur_mass_goes_everywhere_alike() -> None:
    cost, a, b = given()
    found = sinkhorn(cost, a, b, 1e4, 0.0, 20)
    carried = plan(cost, a, b, 1e4, found)
    torch.testing.assert_close(carried, a[:, None] * b, rtol=1e-3, atol=0)
    assert float(a @ found.f + b @ found.g) == pytest.approx(float(a @ cost @ b), rel=1e-4)


def test_what_all_of_a_row_or_column_pay_changes_no_plan() -> None:
    cost, a, b = given()
    dearer = cost + torch.arange(5.0)[:, None] - 2 * torch.arange(7.0)
    torch.testing.assert_close(solved(cost, a, b, 0.1)[1], solved(dearer, a, b, 0.1)[1], rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(solved(cost, a, b, 0.1)[1], solved(30 * cost, a, b, 3.0)[1], rtol=1e-9, atol=1e-15)


def test_turned_over_the_plan_is_turned_over() -> None:
    cost, a, b = given(2)
    torch.testing.assert_close(solved(cost.mT, b, a, 0.1)[1], solved(cost, a, b, 0.1)[1].mT, rtol=1e-9, atol=1e-15)


def test_a_batch_is_its_matrices_one_by_one_and_masses_may_be_shared() -> None:
    cost, a, b = given(2, 3)
    whole = sinkhorn(cost, a, b, 0.1, 0.0, 9)
    for place in ((0, 0), (1, 2)):
        alone = sinkhorn(cost[place], a[place], b[place], 0.1, 0.0, 9)
        assert torch.allclose(alone.f, whole.f[place], atol=1e-14) and torch.allclose(alone.g, whole.g[place], atol=1e-14)
    shared = sinkhorn(cost, a[0, 0], b[0, 0], 0.1, 0.0, 9)
    assert torch.allclose(shared.f[1, 2], sinkhorn(cost[1, 2], a[0, 0], b[0, 0], 0.1, 0.0, 9).f, atol=1e-14)


@pytest.mark.parametrize("turns", [0, 1, 6])
def test_turn_by_turn_it_is_what_selection_computes_in_blocks(turns: int) -> None:
    cost, a, b = given()
    f, g = drain(potentials(lambda start, stop: cost[:, start:stop], a, b, 0.05, 0.0, turns))
    found = sinkhorn(cost, a, b, 0.05, 0.0, turns)
    assert found.g.dtype == torch.float64 and torch.allclose(found.f, f, atol=1e-13) and torch.allclose(found.g, g, atol=1e-13)


def test_it_looks_every_so_often_and_ends_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    cost, a, b = given(2)
    first = sinkhorn(cost, a, b, 0.05, 0.0, EVERY)
    assert all(torch.equal(*pair) for pair in zip(sinkhorn(cost, a, b, 0.05, torch.inf, 1000), first, strict=True))
    turns = list[float]()
    monkeypatch.setattr(module, "transform", lambda *given: turns.append(given[-1]) or transform(*given))
    moved = sinkhorn(cost, a, b, 0.05, 1e-6, 10_000)
    assert EVERY < len(turns) // 2 < 10_000, "one that stands still in the batch does not end the others"
    assert torch.allclose(moved.g, reference(cost, a, b, 0.05, 0.0, 10_000).g, atol=1e-4)


def test_where_the_masses_underflow_logarithms_do_not() -> None:
    cost = 100 * given(m=4, n=4)[0].float()
    assert ((-cost / 0.01).exp() == 0).all()
    a = even(4).float()
    found = sinkhorn(cost, a, a, 0.01, 1e-3, 3000)
    assert found.f.dtype == torch.float32 and plan(cost, a, a, 0.01, found).sum() == pytest.approx(1, abs=1e-2)
