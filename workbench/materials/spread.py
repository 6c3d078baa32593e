"""Rows that lie apart: three greedy choices among vectors of length 1, whose products are cosines.

`apart` goes through rows in an order and leaves out what is too like a row that it kept. `farthest` takes again and again the row that is
farthest from those taken (k-center; Gonzalez, 1985) [K]. `covering` takes the row that brings all rows most (facility location, lazily;
Minoux, 1978) [K]. All yield their progress and give ties to the earlier row. Knows no texts and no scores. Tags as in the project's
notes: [K] known, [O] our own choice.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.events import Progress

BLOCK = 512  # rows that are looked at together
CHUNK = 4096  # kept rows that a block is compared with, between two signs of life
AGAIN = 32  # rows whose gain is measured anew together
LEAST = 1e-6  # of a ground row's value: what brings less brings nothing, for it is the rounding of float32 [O]
WORK = 1 << 29  # products at the first measuring, between two signs of life


@dataclass(frozen=True)
class Scanned:
    """Of N rows: whether each is `kept`, its highest cosine to a row that was kept before it, and which one that is.

    NaN and -1 where nothing was kept before it, or where it was not looked at.
    """

    kept: Tensor  # (N,) bool
    likest: Tensor  # (N,) float32
    like: Tensor  # (N,) int64


def apart(vectors: Tensor, orders: Sequence[Tensor], most: float, room: int) -> Generator[Progress, None, Scanned]:
    """Go through each of the `orders` (int64 rows) on its own and keep what is at most `most` like all that it kept; `room` rows in all.

    Law: no two kept rows of an order have a cosine above `most`; each row left out on the way has one above it with a row kept before.
    """
    count, done, total = len(vectors), 0, sum(map(len, orders))
    kept, likest, like = torch.zeros(count, dtype=torch.bool), torch.full((count,), torch.nan), torch.full((count,), -1)
    for order in orders:
        stays = order[:0]
        for block in order.split(BLOCK):
            if not room:
                break
            yield Progress(done, total, "rows compared")
            best, who = yield from _nearest(vectors, block, stays, Progress(done, total, "rows compared"))
            chosen = _chosen(vectors[block], block, best, who, most, room)
            seen = block if len(chosen) < room else block[: int(chosen[-1]) + 1]  # once there is no room the rest is not looked at
            likest[seen], like[seen] = best[: len(seen)].where(who[: len(seen)] >= 0, torch.nan), who[: len(seen)]
            kept[block[chosen]] = True
            stays = torch.cat([stays, block[chosen]])
            room -= len(chosen)
            done += len(block)
    return Scanned(kept, likest, like)


def _nearest(vectors: Tensor, block: Tensor, stays: Tensor, here: Progress) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """((b,) the highest cosine of each row of the block to the rows that stay, (b,) which row that is); -inf and -1 if none does."""
    best, who = torch.full((len(block),), -torch.inf), torch.full((len(block),), -1)
    for some in stays.split(CHUNK) if len(stays) else ():
        yield here
        high, place = (vectors[block] @ vectors[some].T).max(1)
        best, who = torch.where(high > best, high, best), torch.where(high > best, some[place], who)
    return best, who


def _chosen(own: Tensor, block: Tensor, best: Tensor, who: Tensor, most: float, room: int) -> Tensor:
    """Which places of a block stay, one after the other; `best` and `who` are brought up to date on the way."""
    inside, chosen = own @ own.T, list[int]()
    for place in range(len(block)):
        if len(chosen) == room:
            break
        if best[place] <= most:
            chosen.append(place)
            nearer = inside[place, place + 1 :] > best[place + 1 :]
            best[place + 1 :] = torch.where(nearer, inside[place, place + 1 :], best[place + 1 :])
            who[place + 1 :] = torch.where(nearer, block[place], who[place + 1 :])
    return torch.tensor(chosen, dtype=torch.int64)


def farthest(vectors: Tensor, count: int) -> Generator[Progress, None, tuple[Tensor, Tensor, Tensor]]:
    """((count,) rows in the order in which they are taken, (N,) how far each is from its nearest, (N,) which one that is).

    Far is 1 - cosine. Of a taken row the nearest is the nearest of those taken before it, of the others the nearest of all; the first has
    none (infinity and -1). The first is the row nearest to the mean of all [O]. Law: what is taken is taken ever nearer, and no row left
    is farther than the last one taken; the longest chord to a nearest row is at most twice the shortest that `count` rows can have [K].
    """
    far, like = torch.full((len(vectors),), torch.inf), torch.full((len(vectors),), -1)
    taken, rows = torch.zeros(len(vectors), dtype=torch.bool), list[int]()
    for done in range(count):
        yield Progress(done, count, "rows taken")
        row = int(far.masked_fill(taken, -torch.inf).argmax()) if done else int((vectors @ vectors.mean(0)).argmax())
        taken[row] = True
        rows.append(row)
        distance = 1 - vectors @ vectors[row]
        nearer = (distance < far) & ~taken
        far, like = torch.where(nearer, distance, far), torch.where(nearer, row, like)
    return torch.tensor(rows, dtype=torch.int64), far, like


def covering(vectors: Tensor, ground: Tensor, count: int) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """((count,) rows in the order in which they are taken, (N,) float64 what each brings).

    Rows are taken for F(S) = sum over the `ground` of max over S of (1 + cosine) / 2, which lies between 0 and the size of the ground; a
    row brings the growth of F when it was taken, or, if it was not, at most the number given. Law: what rows bring never grows from one
    taken to the next, none left brings more than the last; F(S) is at least 1 - 1/e of the highest that `count` rows can have [K]. Once no
    row brings more than `LEAST` of each ground row, none is measured any more: the first of those left are taken, and all bring 0.
    """
    covered = torch.zeros(len(ground))
    brings = torch.full((len(vectors),), torch.inf, dtype=torch.float64)
    for some in torch.arange(len(vectors)).split(max(1, WORK // ground.numel())):
        yield Progress(int(some[0]), len(vectors), "rows measured")
        brings[some] = _gains(vectors[some], ground, covered)
    taken, rows = torch.zeros(len(vectors), dtype=torch.bool), list[int]()
    for done in range(count):
        if brings.masked_fill(taken, 0).max() <= LEAST * len(ground):
            rows += (~taken).nonzero()[: count - done, 0].tolist()
            brings[~taken] = 0
            break
        fresh = taken.clone()  # what is measured against all that is taken; of the others the old gain is the most it can be
        while not fresh[row := int(brings.masked_fill(taken, -torch.inf).argmax())]:
            yield Progress(done, count, "rows taken")
            some = brings.masked_fill(fresh, -torch.inf).topk(min(AGAIN, int((~fresh).sum()))).indices
            some = torch.cat([some, torch.tensor([row])]).unique()  # of equals topk gives any, and the first is wanted
            brings[some] = _gains(vectors[some], ground, covered)
            fresh[some] = True
        taken[row] = True
        rows.append(row)
        covered = torch.maximum(covered, (1 + ground @ vectors[row]) / 2)
    return torch.tensor(rows, dtype=torch.int64), brings


def _gains(some: Tensor, ground: Tensor, covered: Tensor) -> Tensor:
    """(b,) float64 by how much each of some rows would raise F."""
    return ((1 + ground @ some.T) / 2 - covered[:, None]).clamp(min=0).sum(0, dtype=torch.float64)
