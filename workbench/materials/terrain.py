"""A flat map of rows, cells on it, and the two gauges of a selection: how many cells it reaches, and how much its rows say.

The map is the first two principal axes of the rows' vectors, because that comes out the same every time. Knows no texts and chooses
nothing. Tags as in the project's notes: [REC] our reconstruction, after the idea of ILA (arXiv:2509.06463), [O] our own choice.
"""

import heapq
import math
from collections.abc import Sequence

import torch
from torch import Tensor

SAMPLE = 20_000  # rows that the axes are found from [O]
WIDTH = 8  # directions that are followed, of which the two with most in them are the axes
ROUNDS = 16


def flat(vectors: Tensor) -> Tensor:
    """(N, 2) float32: where the N rows lie along the two directions in which they differ most, from their mean [REC: PCA].

    Found by subspace iteration from a fixed start on an even sample of at most 20,000 rows [O]. Of the two signs of an axis the one is
    taken in which its largest part is positive.
    """
    if not len(vectors):
        return torch.empty(0, 2)
    sample = vectors[:: math.ceil(len(vectors) / SAMPLE)]
    mean = sample.mean(0)
    sample = sample - mean
    start = torch.randn(vectors.shape[1], min(WIDTH, vectors.shape[1]), generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(start).Q
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(sample.T @ (sample @ basis)).Q
    along = (sample @ basis).double()
    turn = torch.linalg.eigh(along.T @ along).eigenvectors[:, -2:].flip(1).float()
    axes = basis @ turn
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    places = vectors @ axes - mean @ axes
    return torch.nn.functional.pad(places, (0, 2 - places.shape[1]))


def cells(points: Tensor, grid: int) -> Tensor:
    """(N,) int64 in [0, grid²): the cell of each point of (N, 2), where each of the `grid` columns holds as many points, and each line too.

    The edges are quantiles, so equal points share a cell [REC].
    """
    if not len(points):
        return torch.empty(0, dtype=torch.int64)
    shares = torch.linspace(0, 1, grid + 1, dtype=torch.float64)[1:-1]
    column, line = (torch.searchsorted(axis.quantile(shares), axis) for axis in points.double().T.contiguous())
    return column * grid + line


def coverage(kept: Tensor, cells: Tensor) -> float:
    """The share of the cells with rows in them that the (N,) `kept` rows reach; 1 where there are none."""
    there = len(cells.unique())
    return len(cells[kept].unique()) / there if there else 1.0


def mean_depth(kept: Tensor, depths: Tensor) -> float:
    """The mean depth of the kept rows that have one; NaN where none has."""
    return depths[kept].nanmean().item()


def quotas(sizes: Sequence[int], count: int, alpha: float) -> list[int]:
    """How many rows each cell keeps, `count` in all or all there are: one, and more in proportion to its size to the power of `alpha`.

    What is left goes one by one to the cell that is farthest below its due and still has rows, of equals to the larger [REC]. Where there
    are fewer than one for each cell, the larger cells have one.
    """
    weights = [size**alpha for size in sizes]
    due = [count * weight / max(sum(weights), 1e-9) for weight in weights]
    given = [0] * len(sizes)
    for cell in sorted((cell for cell, size in enumerate(sizes) if size), key=lambda cell: (-sizes[cell], cell))[:count]:
        given[cell] = 1
    waiting = [(given[cell] - due[cell], -size, cell) for cell, size in enumerate(sizes) if size > given[cell]]
    heapq.heapify(waiting)
    for _ in range(count - sum(given)):
        if not waiting:
            break
        below, size, cell = heapq.heappop(waiting)
        given[cell] += 1
        if given[cell] < sizes[cell]:
            heapq.heappush(waiting, (below + 1, size, cell))
    return given
