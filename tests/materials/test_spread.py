"""Rows that lie apart: each greedy choice keeps its law, against brute force where the rows are few."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from workbench.core.job import drain
from workbench.materials import spread
from workbench.materials.spread import apart, covering, farthest


def vectors(count: int, width: int = 3, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that a small test crosses their borders."""
    monkeypatch.setattr(spread, "BLOCK", 4)
    monkeypatch.setattr(spread, "CHUNK", 3)
    monkeypatch.setattr(spread, "AGAIN", 2)
    monkeypatch.setattr(spread, "WORK", 5 * 36)


def plain(rows: Tensor, order: list[int], most: float, room: int) -> tuple[list[int], dict[int, tuple[float, int]]]:
    """The scan as one would do it by hand: who is kept, and what each row that was looked at is likest to."""
    kept, likest = list[int](), dict[int, tuple[float, int]]()
    for row in order:
        if len(kept) == room:
            break
        likest[row] = max(((float(rows[row] @ rows[other]), other) for other in kept), default=(math.nan, -1))
        if not likest[row][0] > most:
            kept.append(row)
    return kept, likest


@pytest.mark.parametrize("room", [100, 7])
@pytest.mark.usefixtures("small")
def test_what_is_kept_is_apart_and_what_is_not_is_like_one_that_is(room: int) -> None:
    rows, order = vectors(40), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    found = drain(apart(rows, [order], 0.8, room))
    kept, likest = plain(rows, order.tolist(), 0.8, room)
    assert found.kept.nonzero()[:, 0].tolist() == sorted(kept) and 5 < len(kept) < 30
    assert {row: int(found.like[row]) for row in likest} == {row: other for row, (_, other) in likest.items()}
    assert all(math.isclose(found.likest[row], cosine, abs_tol=1e-6) for row, (cosine, _) in likest.items() if not math.isnan(cosine))
    unseen = sorted(set(range(40)) - set(likest))
    assert found.likest[[*unseen, int(order[0])]].isnan().all() and found.like[unseen].eq(-1).all() and bool(unseen) == (room == 7)


@pytest.mark.usefixtures("small")
def test_each_order_is_gone_through_on_its_own() -> None:
    rows = vectors(12).repeat(2, 1)
    apiece = drain(apart(rows, [torch.arange(12), torch.arange(12, 24)], 0.9, 24))
    assert torch.equal(apiece.kept[:12], apiece.kept[12:]) and not drain(apart(rows, [torch.arange(24)], 0.9, 24)).kept[12:].any()


def chord(rows: Tensor, kept: list[int]) -> float:
    """The longest way from a row to the nearest kept one."""
    return torch.cdist(rows.double(), rows[kept].double()).amin(1).max().item()


@pytest.mark.parametrize("seed", range(8))
def test_the_farthest_rows_reach_at_most_twice_as_far_as_the_best_rows_would(seed: int) -> None:
    rows = vectors(11, 2, seed)
    for count in (1, 2, 3, 4):
        chosen = drain(farthest(rows, count))[0].tolist()
        best = min(chord(rows, list(some)) for some in itertools.combinations(range(11), count))
        assert len(set(chosen)) == count and chord(rows, chosen) <= 2 * best + 1e-6


def test_the_farthest_rows_come_ever_nearer_and_what_is_left_is_nearer_still() -> None:
    rows = vectors(60)
    chosen, far, like = drain(farthest(rows, 12))
    taken, left = far[chosen], far[[row for row in range(60) if row not in set(chosen.tolist())]]
    assert int(chosen[0]) == int((rows @ rows.mean(0)).argmax()) and taken[0] == torch.inf and like[chosen[0]] == -1
    assert (taken[1:-1] >= taken[2:]).all() and left.max() <= taken[-1] and (left > 0).all()
    within = rows @ rows[chosen].T
    others = [row for row in range(60) if row not in set(chosen.tolist())]
    assert torch.allclose(far[others], 1 - within[others].amax(1), atol=1e-6)
    assert like[others].tolist() == chosen[within[others].argmax(1)].tolist()


def test_of_copies_one_is_taken_before_any_again() -> None:
    rows = vectors(5).repeat(3, 1)
    assert {row % 5 for row in drain(farthest(rows, 5))[0].tolist()} == set(range(5))
    assert sorted(drain(farthest(rows, 15))[0].tolist()) == list(range(15))


def value(rows: Tensor, kept: list[int]) -> float:
    return ((1 + rows @ rows[kept].T) / 2).amax(1).double().sum().item()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("small")
def test_what_covers_is_what_plain_greedy_takes_and_near_the_best(seed: int) -> None:
    rows = vectors(12, 3, seed)
    chosen, brings = drain(covering(rows, rows, 4))
    greedy = list[int]()
    for _ in range(4):
        greedy.append(max(set(range(12)) - set(greedy), key=lambda row: value(rows, [*greedy, row])))
    assert chosen.tolist() == greedy
    assert value(rows, greedy) >= (1 - 1 / math.e) * max(value(rows, list(some)) for some in itertools.combinations(range(12), 4))
    left = [row for row in range(12) if row not in greedy]
    gains = brings[chosen].tolist()
    assert gains == sorted(gains, reverse=True) and math.isclose(sum(gains), value(rows, greedy), rel_tol=1e-6)
    assert brings[left].max() <= gains[-1]
    assert all(brings[row] >= value(rows, [*greedy, row]) - value(rows, greedy) - 1e-6 for row in left)


@pytest.mark.usefixtures("small")
def test_what_covers_a_ground_may_lie_outside_it() -> None:
    ground = vectors(6)
    rows = torch.cat([-ground[:4], ground[2:3], ground[4:5]])
    assert set(drain(covering(rows, ground, 2))[0].tolist()) & {4, 5} and len(drain(covering(rows, ground, 6))[0].unique()) == 6


def measured(monkeypatch: pytest.MonkeyPatch, rows: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """(what is taken, what each brings, how many rows were measured anew)"""
    many = list[int]()
    gains = spread._gains

    def counted(some: Tensor, ground: Tensor, covered: Tensor) -> Tensor:
        many.append(len(some))
        return gains(some, ground, covered)

    monkeypatch.setattr(spread, "_gains", counted)
    chosen, brings = drain(covering(rows, rows, count))
    return chosen, brings, sum(many) - len(rows)


def test_rows_that_bring_as_much_as_each_other_are_not_measured_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is alike to all others, so that after each choice all bounds are the same again."""
    chosen, _, many = measured(monkeypatch, torch.eye(600), 100)
    assert chosen.tolist() == list(range(100)), "of equals the first"
    assert many <= 600 + 100 * 33


def test_once_nothing_brings_anything_the_first_rows_are_taken_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = vectors(4, 8).repeat_interleave(100, 0)
    chosen, brings, many = measured(monkeypatch, rows, 200)
    found = chosen.tolist()
    assert {row // 100 for row in found[:4]} == set(range(4)) and all(row % 100 == 0 for row in found[:4])
    assert found[4:] == [row for row in range(400) if row not in found[:4]][:196]
    assert brings[found[:4]].min() > 1 and (brings[found[4:]] == 0).all() and brings.count_nonzero() == 4
    assert many <= 5 * 400
