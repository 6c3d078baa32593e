"""Who stands opposite whom: the exact pairing against all there are, against the authors' transport, and against the square assignment."""

import itertools
import subprocess
import sys

import numpy
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials import pairing
from workbench.materials.pairing import Pairing, by_activations, by_place, by_weights
from workbench.materials.units import Units

QUERY, KEY, VALUE, MIXED = (f"self_attn.{name}_proj" for name in "qkvo")
PAIRINGS = [by_place, by_weights, by_activations]


def units(count: int, seed: int) -> Units:
    """Neurons of width 3, each module drawn."""
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, 1, 3, dtype=torch.float64, generator=draw) for name in ("mlp.gate_proj", "mlp.down_proj")}


def group_units(count: int, heads: int, seed: int) -> Units:
    """Groups of `heads` query heads of two rows each."""
    draw = torch.Generator().manual_seed(seed)
    rows = {QUERY: 2 * heads, KEY: 2, VALUE: 2, MIXED: 2 * heads}
    return {name: torch.randn(count, number, 3, dtype=torch.float64, generator=draw) for name, number in rows.items()}


def costs(a: Units, b: Units) -> Tensor:
    """(n, n) squared distances, each worked out alone."""
    return sum((a[name][:, None] - b[name][None]).square().sum((2, 3)) for name in a)


def total(pairs: Pairing) -> float:
    return float(pairs.squares[pairs.a].sum())


@pytest.mark.parametrize("apart", range(5))
def test_of_all_partial_permutations_it_is_the_cheapest(apart: int) -> None:
    a, b = units(4, 1), units(4, 2)
    table = costs(a, b)
    every = [
        (sum(float(table[i, j]) for i, j in zip(rows, columns, strict=True)), rows, columns)
        for rows in itertools.combinations(range(4), 4 - apart)
        for columns in itertools.permutations(range(4), 4 - apart)
    ]
    least, rows, columns = min(every)
    pairs = by_weights(a, b, apart, 1)
    assert (tuple(pairs.a.tolist()), tuple(pairs.b.tolist())) == (rows, columns)
    assert total(pairs) == pytest.approx(least)
    assert [len(places) for places in pairs.alone()] == [apart, apart]
    assert sorted([*rows, *pairs.alone()[0].tolist()]) == sorted([*columns, *pairs.alone()[1].tolist()]) == list(range(4))


@pytest.mark.parametrize("apart", [0, 1, 3, 6])
def test_it_is_where_the_transport_with_a_sink_ends(apart: int) -> None:
    """The authors' problem: n points of equal mass and a sink of α/(1+α) on each side; to a sink is free, from sink to sink dear."""
    a, b, count = units(6, 3), units(6, 4), 6
    table = costs(a, b).numpy()
    share = apart / count
    mass = numpy.array([*[1 / (count * (1 + share))] * count, share / (1 + share)])
    prices = numpy.zeros((count + 1, count + 1))
    prices[:count, :count], prices[count, count] = table, table.max() + 1
    sums = [numpy.kron(*sides) for sides in ((numpy.eye(count + 1), numpy.ones(count + 1)), (numpy.ones(count + 1), numpy.eye(count + 1)))]
    solved = linprog(prices.ravel(), A_eq=numpy.vstack(sums), b_eq=numpy.concatenate([mass, mass]))
    plan = solved.x.reshape(count + 1, count + 1)[:count, :count] * count * (1 + share)
    pairs = by_weights(a, b, apart, 1)
    taken = numpy.zeros((count, count))
    taken[pairs.a, pairs.b] = 1
    numpy.testing.assert_allclose(plan, taken, atol=1e-7)
    assert solved.fun * count * (1 + share) == pytest.approx(total(pairs))


@pytest.mark.parametrize("apart", [0, 7, 29, 30])
def test_a_rectangle_of_empty_places_is_the_square_that_forbids_them_to_meet(apart: int) -> None:
    a, b = units(30, 5), units(30, 6)
    table = costs(a, b).numpy()
    square = numpy.full((30 + apart, 30 + apart), table.max() * 31)
    square[:30, :30], square[:30, 30:], square[30:, :30] = table, 0, 0
    rows, columns = linear_sum_assignment(square)
    assert total(by_weights(a, b, apart, 1)) == pytest.approx(square[rows, columns].sum())


@pytest.mark.parametrize("near", [0.0, 0.05, 1.0, 30.0])
def test_it_is_never_dearer_than_by_place(near: float) -> None:
    for seed in range(5):
        a, other = units(15, seed), units(15, seed + 50)
        b = {name: a[name] + near * other[name] for name in a}
        for apart in range(16):
            dear, cheap = total(by_place(a, b, apart, 1)), total(by_weights(a, b, apart, 1))
            assert cheap <= dear * (1 + 1e-12)
            if near == 30 and apart < 12:
                assert cheap < dear


@pytest.mark.parametrize("pair", PAIRINGS)
def test_what_is_apart_stays_apart_at_every_larger_number(pair) -> None:
    a, b = units(20, 7), units(20, 8)
    sets = [[set(places.tolist()) for places in pair(a, b, apart, 1).alone()] for apart in range(21)]
    for fewer, more in itertools.pairwise(sets):
        assert fewer[0] < more[0] and fewer[1] < more[1]


def test_partners_change_with_the_number_apart() -> None:
    """0 and 3 opposite 2 and 9: 0 takes the 2 while both must be paired; with one apart, 3 takes it."""
    a, b = ({"mlp.up_proj": torch.tensor(numbers, dtype=torch.float64).view(2, 1, 1)} for numbers in ([0.0, 3.0], [2.0, 9.0]))
    both, one = by_weights(a, b, 0, 1), by_weights(a, b, 1, 1)
    assert (both.a.tolist(), both.b.tolist()) == ([0, 1], [0, 1]) and (one.a.tolist(), one.b.tolist()) == ([1], [0])
    assert both.squares.tolist() == [4, 36] and one.squares.tolist() == [4, 1]  # 0 is apart: the nearest to it is 2


@pytest.mark.parametrize("apart", [0, 1, 2])
def test_groups_are_paired_with_their_query_heads_in_the_best_order(apart: int) -> None:
    a, b = group_units(3, 3, 1), group_units(3, 3, 2)
    every = []
    for rows in itertools.combinations(range(3), 3 - apart):
        for columns in itertools.permutations(range(3), 3 - apart):
            for orders in itertools.product(itertools.permutations(range(3)), repeat=3 - apart):
                turned = {name: b[name].clone() for name in b}
                for column, order in zip(columns, orders, strict=True):
                    for name in (QUERY, MIXED):
                        turned[name][column] = torch.cat([b[name][column, 2 * head : 2 * head + 2] for head in order])
                table = costs(a, turned)
                every.append((sum(float(table[i, j]) for i, j in zip(rows, columns, strict=True)), rows, columns, orders))
    least, *best = min(every)
    pairs = by_weights(a, b, apart, 3)
    assert [tuple(pairs.a.tolist()), tuple(pairs.b.tolist()), tuple(map(tuple, pairs.heads.tolist()))] == best
    assert total(pairs) == pytest.approx(least)


def test_what_stands_opposite_is_the_unit_with_its_heads_in_order() -> None:
    b = group_units(2, 3, 1)
    pairs = Pairing(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([[1, 2, 0], [0, 1, 2]]), torch.zeros(2), 1.0)
    for name in (QUERY, MIXED):
        assert torch.equal(pairs.opposite(name, b[name]), torch.stack([b[name][1][[2, 3, 4, 5, 0, 1]], b[name][0]]))
    for name in (KEY, VALUE):
        assert torch.equal(pairs.opposite(name, b[name]), b[name][[1, 0]])


@pytest.mark.parametrize(("count", "apart"), [(1, 0), (1, 1), (7, 3)])
def test_units_that_are_all_alike_leave_just_as_many_apart(count: int, apart: int) -> None:
    for size in (0.0, 1.0):
        a = {"mlp.up_proj": torch.full((count, 1, 3), size, dtype=torch.float64)}
        for pair in PAIRINGS:
            pairs = pair(a, a, apart, 1)
            assert len(pairs.a) == len(set(pairs.b.tolist())) == count - apart and pairs.squares.eq(0).all()
            assert pairs.distances() == {"near": 0, "mean": 0, "far": 0, "cut": 0}


def test_the_distances_of_a_worked_example() -> None:
    """0, 10, 21 opposite 10, 1, 20.5, whose norm is the root of (0 + 100 + 441 + 100 + 1 + 420.25) / 6."""
    a, b = ({"mlp.up_proj": torch.tensor(numbers, dtype=torch.float64).view(3, 1, 1)} for numbers in ([0.0, 10, 21], [10.0, 1, 20.5]))
    norm = (1062.25 / 6) ** 0.5
    place, weights = by_place(a, b, 1, 1), by_weights(a, b, 1, 1)
    assert place.norm == weights.norm == pytest.approx(norm)
    assert (place.a.tolist(), place.b.tolist()) == ([1, 2], [1, 2]) and place.anew() == 0  # 0 and 10 differ most
    wanted = {"near": (0.5 + 0.2 * 8.5) / norm, "mean": 19.5 / 3 / norm, "far": (9 + 0.8) / norm, "cut": 9 / norm}
    assert place.distances() == pytest.approx(wanted)
    assert (weights.a.tolist(), weights.b.tolist(), weights.anew()) == ([1, 2], [0, 2], 0.5)
    assert weights.distances() == pytest.approx({"near": 0.1 / norm, "mean": 0.5 / norm, "far": 0.9 / norm, "cut": 0.5 / norm})
    assert by_weights(a, b, 3, 1).distances()["cut"] == 0 == by_weights(a, b, 3, 1).anew()


def test_query_heads_in_another_order_are_paired_anew() -> None:
    a = group_units(2, 2, 1)
    b = {name: rows[:, [2, 3, 0, 1]] if rows.shape[1] == 4 else rows for name, rows in a.items()}
    b = {name: torch.stack([a[name][0], rows[1]]) for name, rows in b.items()}  # of the second group alone
    assert by_weights(a, b, 0, 2).anew() == 0.5 and total(by_weights(a, b, 0, 2)) == 0


@pytest.mark.parametrize("match", ["weights", "activations"])
def test_more_than_fits_into_memory_is_refused(match: str) -> None:
    pairing.check_room(match, 12_000)
    with pytest.raises(WorkbenchError, match=rf"12,001 neurons, and matching by {match} takes 12,000 .* here 1\.2 GB\. Set match to place"):
        pairing.check_room(match, 12_001)
    pairing.check_room("place", 12_001)


def test_the_solver_is_not_imported_before_it_is_wanted() -> None:
    code = "import sys, workbench.materials.pairing; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
