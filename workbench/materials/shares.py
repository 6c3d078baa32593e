"""Rows shared out among askers in turn: in each round every asker takes its best row that nobody has taken.

How good a row is for an asker is asked for in blocks and never held for all. Of each asker a list of its best rows is held, and made anew
of those that are left where all of it is taken. What it is not: it knows no texts and no vectors.
"""

from array import array
from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.events import Progress

HELD = 20_000_000  # places in all lists together
AT_ONCE = 1 << 21  # numbers in a block
Score = Callable[[int, int], Tensor]
"""`score(start, stop)` is (stop − start, N): how good each of the N rows is for these askers; −inf where it is out of the question."""


@dataclass(frozen=True)
class Shared:
    """`taken` are (row, asker, how good) in the order in which they were taken; of all N rows the best that they are, and for whom."""

    taken: list[tuple[int, int, float]]
    best: Tensor  # (N,) float32
    asker: Tensor  # (N,) int64

    def last(self) -> dict[int, float]:
        """Of each asker that took any, how good the last row was that it took."""
        return {asker: good for _, asker, good in self.taken}


def shared(score: Score, askers: int, rows: int, count: int) -> Generator[Progress, None, Shared]:
    """The first `count` rows that are taken, the askers in their order, or all that anybody can take; of equals the first row."""
    size = max(1, min(count, HELD // max(1, askers)))
    lists, best, asker = list[_List](), torch.full((rows,), -torch.inf), torch.zeros(rows, dtype=torch.int64)
    step = max(1, AT_ONCE // max(1, rows))
    for start in range(0, askers, step):
        yield Progress(start, askers, "targets compared")
        block = score(start, min(start + step, askers))
        lists += [_list(row, size) for row in block]
        good, whose = block.max(0)
        asker = torch.where(good > best, whose + start, asker)
        best = torch.maximum(best, good)
    taken = yield from _rounds(score, lists, rows, count, size)
    return Shared(taken, best, asker)


class _List:
    """One asker's best rows, how good they are, and how far down it is; `more` says whether there may be others behind them."""

    def __init__(self, rows: array, good: array, more: bool):
        self.rows, self.good, self.more, self.place = rows, good, more, 0

    def next(self, free: bytearray) -> bool:
        """Go on to the first row that is free; False where there is none in the list."""
        while self.place < len(self.rows) and not free[self.rows[self.place]]:
            self.place += 1
        return self.place < len(self.rows)


def _list(good: Tensor, size: int) -> _List:
    near = (good >= good.topk(min(size, len(good))).values[-1:]).nonzero()[:, 0]  # those to be sorted, which are far fewer than all
    order = good[near].sort(descending=True, stable=True)
    there = int((order.values[:size] > -torch.inf).sum())
    rows = near[order.indices[:there]]
    held = array("i", rows.int().numpy().tobytes()), array("f", order.values[:there].float().numpy().tobytes())
    return _List(*held, more=there == size)


def _rounds(score: Score, lists: list[_List], rows: int, count: int, size: int) -> Generator[Progress, None, list[tuple[int, int, float]]]:
    taken, free, asking = list[tuple[int, int, float]](), bytearray(b"\1") * rows, list(range(len(lists)))
    while asking and len(taken) < count:
        yield Progress(len(taken), count, "rows taken")
        still = list[int]()
        for asker in asking:
            if len(taken) == count:
                break
            held = lists[asker]
            if not held.next(free) and held.more:
                yield Progress(len(taken), count, "rows taken")
                left = torch.frombuffer(free, dtype=torch.uint8).bool()
                held = lists[asker] = _list(score(asker, asker + 1)[0].masked_fill(~left, -torch.inf), size)
            if held.next(free):
                taken.append((held.rows[held.place], asker, held.good[held.place]))
                free[held.rows[held.place]] = 0
                still.append(asker)
        asking = still
    return taken
