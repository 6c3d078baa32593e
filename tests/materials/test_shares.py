"""Rows in turn: what is taken is what a plain search takes, however short the lists and blocks are."""

import math

import pytest
import torch

from workbench.core.job import drain
from workbench.materials import shares
from workbench.materials.shares import Shared, shared


def plainly(good: list[list[float]], count: int) -> list[tuple[int, int]]:
    """(row, asker) as they are taken, by looking through all rows each time."""
    free, taken, before = set(range(len(good[0]))), list[tuple[int, int]](), -1
    while len(taken) < count and len(taken) > before:
        before = len(taken)
        for asker, scores in enumerate(good):
            there = [row for row in sorted(free) if scores[row] > -math.inf]
            if there and len(taken) < count:
                row = max(there, key=lambda row: (scores[row], -row))
                taken.append((row, asker))
                free.remove(row)
    return taken


def of(good: torch.Tensor, count: int) -> Shared:
    return drain(shared(lambda start, stop: good[start:stop], len(good), good.shape[1], count))


@pytest.mark.parametrize(("held", "at_once"), [(10**6, 10**6), (40, 30), (1, 1)])
@pytest.mark.parametrize("equal", [False, True])
def test_what_is_taken_is_what_a_plain_search_takes(monkeypatch: pytest.MonkeyPatch, held: int, at_once: int, equal: bool) -> None:
    monkeypatch.setattr(shares, "HELD", held)
    monkeypatch.setattr(shares, "AT_ONCE", at_once)
    draw = torch.Generator().manual_seed(0)
    for count in (1, 5, 12, 30):
        good = torch.randint(0, 4, (7, 30), generator=draw).float()
        good = good[:1].repeat(7, 1) if equal else good
        found = of(good, count)
        assert [(row, asker) for row, asker, _ in found.taken] == plainly(good.tolist(), count)
        assert all(good[asker, row] == value for row, asker, value in found.taken)
        assert torch.equal(found.best, good.max(0).values) and torch.equal(found.asker, good.max(0).indices)


def test_what_is_out_of_the_question_is_never_taken() -> None:
    good = torch.rand(4, 20, generator=torch.Generator().manual_seed(1))
    good[:, ::2] = -math.inf
    good[2] = -math.inf
    found = of(good, 20)
    assert sorted(row for row, _, _ in found.taken) == list(range(1, 20, 2)) and {asker for _, asker, _ in found.taken} == {0, 1, 3}
    assert set(found.last()) == {0, 1, 3} and found.best[0] == -math.inf


def test_what_is_left_is_no_better_than_what_its_asker_took_last() -> None:
    good = torch.rand(6, 200, generator=torch.Generator().manual_seed(2))
    found = of(good, 40)
    left, last = set(range(200)) - {row for row, _, _ in found.taken}, found.last()
    assert all(good[asker, row] <= last[asker] for row in left for asker in range(6))


def test_the_last_round_serves_the_first_and_goes_on_past_those_who_find_nothing() -> None:
    good = torch.tensor([[1.0, 0, 0], [-math.inf] * 3, [0, 0, 2]])
    assert [(row, asker) for row, asker, _ in of(good, 2).taken] == [(0, 0), (2, 2)]
    assert [asker for _, asker, _ in of(torch.rand(5, 9), 3).taken] == [0, 1, 2]


def test_no_rows_and_no_askers_take_nothing() -> None:
    assert of(torch.empty(3, 0), 4).taken == [] and of(torch.empty(0, 4), 4).taken == []
