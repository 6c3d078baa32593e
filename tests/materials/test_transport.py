"""Transport: the gradient is that of finite differences, of the exact cost and of the blurred one, in whatever blocks."""

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from workbench.core.job import drain
from workbench.materials import transport
from workbench.materials.transport import calibrated, cosine_cost, potentials


def given(m: int = 6, n: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Costs and two uneven masses, float64."""
    draw = torch.Generator().manual_seed(seed)
    points = torch.rand(m + n, 3, generator=draw, dtype=torch.float64)
    masses = torch.rand(m + n, generator=draw, dtype=torch.float64) + 0.2
    return torch.cdist(points[:m], points[m:]) ** 2, masses[:m] / masses[:m].sum(), masses[m:] / masses[m:].sum()


def exactly(costs: Tensor, a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    """(OT, its g) by linear programming."""
    m, n = costs.shape
    rows = torch.eye(m).repeat_interleave(n, 1)
    columns = torch.eye(n).repeat(1, m)
    found = linprog(costs.flatten().numpy(), A_eq=torch.cat([rows, columns]).numpy(), b_eq=torch.cat([a, b]).numpy(), method="highs")
    return found.fun, torch.from_numpy(found.eqlin.marginals[m:].copy())


def solved(costs: Tensor, a: Tensor, b: Tensor, blur: float) -> tuple[Tensor, Tensor]:
    return drain(potentials(lambda start, stop: costs[:, start:stop], a, b, blur, 1e-13, 100_000))


def put(b: Tensor, place: int, weight: float) -> Tensor:
    moved = (1 - weight) * b
    moved[place] += weight
    return moved


def test_the_calibrated_gradient_is_the_finite_difference_of_the_exact_cost() -> None:
    costs, a, b = given()
    value, g = exactly(costs, a, b)
    differences = [(exactly(costs, a, put(b, place, 1e-4))[0] - value) / 1e-4 for place in range(len(b))]
    assert torch.allclose(calibrated(g, b), torch.tensor(differences, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("blur", [1.0, 0.1])
def test_it_is_the_finite_difference_of_the_blurred_cost(blur: float) -> None:
    costs, a, b = given()

    def cost(b: Tensor) -> Tensor:
        f, g = solved(costs, a, b, blur)
        plan = a[:, None] * b * ((f[:, None] + g - costs) / blur).exp()
        assert torch.allclose(plan.sum(0), b, atol=1e-9) and torch.allclose(plan.sum(1), a, atol=1e-9), "all mass is carried"
        return a @ f + b @ g - blur * plan.sum() + blur

    differences = torch.stack([(cost(put(b, place, 1e-5)) - cost(b)) / 1e-5 for place in range(len(b))])
    assert torch.allclose(calibrated(solved(costs, a, b, blur)[1], b), differences, atol=5e-4)


def test_with_little_blur_it_is_nearly_exact() -> None:
    costs, a, b = given()
    value, g = exactly(costs, a, b)
    f, near = solved(costs, a, b, 0.002)
    assert float(a @ f + b @ near) == pytest.approx(value, abs=0.01)
    assert torch.allclose(calibrated(near, b), calibrated(g, b), atol=0.02)


def test_a_constant_changes_nothing_and_the_mean_is_0() -> None:
    _, _, b = given()
    g = torch.randn(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(calibrated(g + 3.5, b), calibrated(g, b)) and abs(float(b @ calibrated(g, b))) < 1e-12
    costs, a, b = given()
    plain, dearer = (calibrated(solved(each, a, b, 0.1)[1], b) for each in (costs, costs + 2))
    assert torch.allclose(plain, dearer)


def test_places_in_another_order_have_the_same_gradients() -> None:
    costs, a, b = given()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    mixed = solved(costs[:, order], a, b[order], 0.1)[1]
    assert torch.allclose(solved(costs, a, b, 0.1)[1][order], mixed)


@pytest.mark.parametrize("held", [0, 10**6])
def test_blocks_and_what_is_held_change_nothing(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    draw = torch.Generator().manual_seed(3)
    one, other = (torch.nn.functional.normalize(torch.randn(count, 4, generator=draw, dtype=torch.float64), dim=1) for count in (5, 23))
    a, b = torch.full((5,), 1 / 5, dtype=torch.float64), torch.full((23,), 1 / 23, dtype=torch.float64)
    monkeypatch.setattr(transport, "HELD", held)
    whole = drain(potentials(cosine_cost(one, other), a, b, 0.05, 1e-6, 500))
    monkeypatch.setattr(transport, "AT_ONCE", 5 * 4)
    blocks = drain(potentials(cosine_cost(one, other), a, b, 0.05, 1e-6, 500))
    plain = drain(potentials(lambda start, stop: (1 - one @ other.T)[:, start:stop], a, b, 0.05, 1e-6, 500))
    assert all(torch.allclose(x, y) and torch.allclose(x, z) for x, y, z in zip(whole, blocks, plain, strict=True))
    cost = cosine_cost(one, other)
    assert (cost(0, 4) is cost(0, 4)) == bool(held)


def test_f_is_the_answer_to_g_however_early_it_ends() -> None:
    costs, a, b = given()
    f, g = drain(potentials(lambda start, stop: costs[:, start:stop], a, b, 0.05, 0.0, 1))
    carried = (a[:, None] * b * ((f[:, None] + g - costs) / 0.05).exp()).sum(1)
    assert torch.allclose(carried, a) and torch.allclose(f, -0.05 * ((g - costs) / 0.05 + b.log()).logsumexp(1))
    first = -0.05 * (-costs / 0.05 + b.log()).logsumexp(1)
    assert torch.allclose(g, -0.05 * ((first[:, None] - costs) / 0.05 + a[:, None].log()).logsumexp(0)), "one iteration is one"


def test_it_ends_when_nothing_moves_and_after_as_many_iterations_as_are_allowed() -> None:
    costs, a, b = given()
    steps = {
        (tolerance, most): {event.done for event in potentials(lambda start, stop: costs[:, start:stop], a, b, 0.02, tolerance, most)}
        for tolerance, most in ((1e-2, 500), (1e-5, 500), (0.0, 7))
    }
    assert 1 < len(steps[1e-2, 500]) < len(steps[1e-5, 500]) < 500 and steps[0.0, 7] == set(range(7))
