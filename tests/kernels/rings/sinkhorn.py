"""Sinkhorn's iterations by Triton against float64, from the same numbers."""

import pytest
import torch
from ring import DEVICE, DTYPES, INTERPRETED, doubles, draw, near
from torch import Tensor
from workbench_kernels import sinkhorn as module
from workbench_kernels.sinkhorn import plan, reference, sinkhorn, transform, transform_reference

SHAPES = [(1, 1, 1), (3, 5, 7), (2, 33, 130), (1, 3, 600)] + ([] if INTERPRETED else [(4, 1000, 3001), (1, 1, 100_000)])


def given(batch: int, m: int, n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Costs and two uneven histograms."""
    a, b = draw(batch, m).softmax(-1), draw(batch, n, seed=1).softmax(-1)
    return draw(batch, m, n, seed=2).abs().to(dtype), a, b


@pytest.mark.parametrize("blur", [0.05, 2.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_halves_of_an_iteration(shape: tuple[int, int, int], dtype: torch.dtype, blur: float) -> None:
    cost, a, b = given(*shape, dtype=dtype)
    for found, potential, masses in ((cost, draw(*b.shape), b), (cost.mT, draw(*a.shape), a)):
        half = transform(found, potential, masses, blur)
        assert half.dtype == torch.float32
        near(half, transform_reference(*doubles(found, potential, masses), blur))


def test_iterations_and_what_they_carry() -> None:
    cost, a, b = given(2, 9, 14)
    found, expected = sinkhorn(cost, a, b, 0.2, 1e-5, 48), reference(*doubles(cost, a, b), 0.2, 1e-5, 48)
    for one, other in zip(found, expected, strict=True):
        near(one, other, exact=1e-5)
    carried = plan(cost, a, b, 0.2, found)
    near(carried.sum(-1), a, exact=1e-5)
    near(carried.sum(-2), b, exact=1e-3)


def test_places_without_mass_and_steep_costs_leave_no_infinity() -> None:
    cost, _, b = given(1, 4, 540)
    b[0, :520] = 0.0  # the first tile of the columns has no mass at all
    half = transform(1e3 * cost, draw(1, 540), b, 1e-3)
    near(half, transform_reference(*doubles(1e3 * cost, draw(1, 540), b), 1e-3))
    alone = torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=DEVICE)
    near(transform(cost.mT, draw(1, 4), alone, 0.1), (cost[:, 0] - draw(1, 4)[0, 0]).double())


def test_nothing_is_read_beyond_the_matrix_and_no_input_is_written_into() -> None:
    around = torch.full((2, 40, 90), torch.nan, device=DEVICE)
    around[:, 2:35, 3:70] = draw(2, 33, 67).abs()
    cost, potential, masses = around[:, 2:35, 3:70], draw(2, 67), draw(2, 67).softmax(-1)
    before = [each.clone() for each in (around, potential, masses)]
    near(transform(cost, potential, masses, 0.3), transform_reference(*doubles(cost, potential, masses), 0.3))
    near(
        transform(cost.mT, draw(2, 33), draw(2, 33).softmax(-1), 0.3),
        transform_reference(*doubles(cost.mT, draw(2, 33), draw(2, 33).softmax(-1)), 0.3),
    )
    assert all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip(before, (around, potential, masses), strict=True))


def test_any_strides_and_shared_masses() -> None:
    cost = draw(6, 10, 8, seed=3).abs()[:, ::2, ::2].unflatten(0, (2, 3))
    potential, masses = draw(2, 3, 4), draw(4).softmax(-1)
    near(transform(cost, potential, masses, 0.3), transform_reference(*doubles(cost, potential, masses), 0.3))
    one = draw(5, 4).abs()
    many = one.expand(3, 5, 4)
    assert torch.equal(transform(many, draw(3, 4), masses, 0.3)[1], transform(one, draw(3, 4)[1], masses, 0.3))


@pytest.mark.parametrize("across", [0, 1, 2], ids=["matrices", "rows", "columns"])
def test_what_lies_beyond_two_to_the_31(across: int) -> None:
    """A buffer of 4 GiB, of which nothing but the costs is touched: three matrices, rows or columns, 2³⁰ + 16 numbers apart."""
    apart, sizes, strides = 2**30 + 16, [1, 2, 2], [4, 2, 1]
    sizes[across], strides[across] = 3, apart
    cost = torch.empty(2 * apart + 16, dtype=torch.bfloat16, device=DEVICE).as_strided(sizes, strides)
    cost.copy_(draw(*sizes).abs())
    potential, masses = draw(sizes[0], sizes[2]), draw(sizes[0], sizes[2], seed=1).softmax(-1)
    near(transform(cost, potential, masses, 0.3), transform_reference(*doubles(cost, potential, masses), 0.3))


def test_what_is_float64_stays_it() -> None:
    given_double = doubles(*given(1, 4, 6))
    found = sinkhorn(*given_double, 0.3, 0.0, 8)
    assert found.f.dtype == found.g.dtype == torch.float64
    assert torch.equal(found.f, reference(*given_double, 0.3, 0.0, 8).f)


def test_no_matrices_give_no_potentials() -> None:
    f, g = sinkhorn(*given(0, 3, 4), 0.1, 0.0, 2)
    assert f.shape == (0, 3) and g.shape == (0, 4)


def test_two_runs_are_alike_to_the_bit() -> None:
    one, other = (sinkhorn(*given(2, 40, 70), 0.05, 0.0, 3) for _ in range(2))
    assert torch.equal(one.f, other.f) and torch.equal(one.g, other.g)


def test_torch_compile_keeps_it() -> None:
    cost, _, b = given(2, 6, 11)
    kept = torch.compile(lambda *given: transform(*given, 0.3), backend="aot_eager", fullgraph=True)
    assert torch.equal(kept(cost, draw(2, 11), b), transform(cost, draw(2, 11), b, 0.3))
    torch.library.opcheck(module._transform, (cost, draw(2, 11), b.log(), 0.3), test_utils=("test_schema", "test_faketensor"))
