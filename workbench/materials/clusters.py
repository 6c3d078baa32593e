"""Rows that lie together: k-means on the sphere, for vectors of length 1.

What it is not: exact. Which groups come out depends on the rows that it starts with, which a seed draws. Knows no texts. Tags as in the
project's notes: [K] known, [O] our own choice.
"""

from collections.abc import Generator

import torch
from torch import Tensor

from workbench.core.events import Progress

ROUNDS = 20
WORK = 1 << 28  # products between two signs of life


def spherical(vectors: Tensor, count: int, seed: int) -> Generator[Progress, None, tuple[Tensor, Tensor, Tensor]]:
    """((k, D) centres of length 1, (N,) int64 the nearest centre of each of the N rows, (N,) the cosine to it), for 1 ≤ k ≤ N.

    It begins with k different rows as centres; in each of at most 20 rounds a centre moves to the mean of the rows that it is nearest to,
    and a centre without rows stays where it is [O]. Law: the mean cosine does not fall from round to round [K].
    """
    draw = torch.Generator().manual_seed(seed)
    centres, cluster = vectors[torch.randperm(len(vectors), generator=draw)[:count]], torch.full((len(vectors),), -1)
    for turn in range(ROUNDS):
        before = cluster
        cluster, near, sums = yield from _nearest(vectors, centres, turn)
        if turn == ROUNDS - 1 or torch.equal(cluster, before):
            break
        lengths = sums.norm(dim=-1, keepdim=True)
        centres = torch.where(lengths > 0, sums / lengths.clamp(min=torch.finfo(torch.float32).tiny), centres)
    return centres, cluster, near


def _nearest(vectors: Tensor, centres: Tensor, turn: int) -> Generator[Progress, None, tuple[Tensor, Tensor, Tensor]]:
    """((N,) the nearest centre of each row, (N,) the cosine to it, (k, D) the sum of each centre's rows)."""
    cluster, near = torch.empty(len(vectors), dtype=torch.int64), torch.empty(len(vectors))
    sums, rows = torch.zeros_like(centres), max(1, WORK // centres.numel())
    for start in range(0, len(vectors), rows):
        yield Progress(turn * len(vectors) + start, ROUNDS * len(vectors), "rows grouped")
        some = vectors[start : start + rows]
        near[start : start + rows], cluster[start : start + rows] = (some @ centres.T).max(1)
        sums.index_add_(0, cluster[start : start + rows], some)
    return cluster, near, sums
