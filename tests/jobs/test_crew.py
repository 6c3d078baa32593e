"""Threads side by side: all is told, an error ends all, and closing leaves nobody at work."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
import torch

from workbench.jobs.crew import side_by_side


def count(to: int, name: str, done: list[str]) -> Iterator[str]:
    try:
        for number in range(to):
            yield f"{name}{number}"
    finally:
        done.append(name)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_all_is_told_and_each_piece_in_its_order(threads: int) -> None:
    done: list[str] = []
    told = list(side_by_side([partial(count, 200, name, done) for name in "abc"], threads))
    assert sorted(done) == ["a", "b", "c"]
    for name in "abc":
        assert [step for step in told if step[0] == name] == [f"{name}{number}" for number in range(200)]


def test_nothing_to_do_is_over_at_once() -> None:
    assert list(side_by_side([])) == []


def test_pieces_are_worked_on_at_the_same_time_and_on_one_core_each() -> None:
    both = threading.Barrier(2, timeout=20)

    def meet() -> Iterator[int]:
        both.wait()
        yield torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(side_by_side([meet, meet], 2)) == [1, 1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_is_raised_here_and_ends_the_others() -> None:
    done: list[str] = []

    def fail() -> Iterator[str]:
        yield "one"
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(side_by_side([partial(count, 10**9, "a", done), fail, partial(count, 1, "never", done)], 2))
    assert done == ["a"]


def test_closing_ends_all_of_them_before_it_returns() -> None:
    done: list[str] = []
    before = threading.active_count()
    with closing(side_by_side([partial(count, 10**9, name, done) for name in "abcdef"], 3)) as steps:
        next(steps)
    assert len(done) == 3 and threading.active_count() == before


def test_who_is_not_heard_waits() -> None:
    ahead = []

    def tell() -> Iterator[int]:
        for number in range(10**6):
            ahead.append(number)
            yield number

    with closing(side_by_side([tell], 1)) as steps:
        next(steps)
        deadline = time.monotonic() + 20
        while (seen := len(ahead)) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert seen <= len(ahead) < 100
