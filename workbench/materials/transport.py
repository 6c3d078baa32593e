"""Entropic optimal transport by Sinkhorn's iterations on logarithms, in blocks: what it is worth to have mass at a place.

The cost of carrying all mass from a to b is, with blur ε,
    OT(a, b) = max over f, g of  Σ a_i f_i + Σ b_j g_j − ε Σ_ij a_i b_j exp((f_i + g_j − C_ij) / ε) + ε.
Where f and g are the best, the gradient with regard to b is g up to a constant. Costs are asked for in blocks of columns and never held
here. Knows no rows. Tags as in the project's notes: [K] known, [O] our choice.
"""

from collections.abc import Callable, Generator, Iterator

import torch
from torch import Tensor
from workbench_kernels.sinkhorn import transform

from workbench.core.events import Progress

AT_ONCE = 1 << 21  # costs in a block, between two signs of life
HELD = 100_000_000  # costs that are held; beyond them they are computed anew in every iteration
Cost = Callable[[int, int], Tensor]
"""`cost(start, stop)` is (M, stop − start): what it costs to carry mass from each of M places to those of the N from start on."""


def potentials(
    cost: Cost, a: Tensor, b: Tensor, blur: float, tolerance: float, most: int
) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
    """(f (M,), g (N,)) for the masses a and b, which add up to 1 each, after `most` iterations or when g moves by `tolerance` at most.

    A g of which f is the answer is found first, and then f anew: each iteration reads the costs once.
    """
    g, more = torch.zeros_like(b), torch.full_like(a, -torch.inf)
    for start, stop in _blocks(len(a), len(b)):
        yield Progress(0, most, "iterations at most")
        more = torch.logaddexp(more, transform(cost(start, stop), g[start:stop], b[start:stop], blur) / -blur)
    for turn in range(most):
        f, more, moved = -blur * more, torch.full_like(a, -torch.inf), 0.0
        for start, stop in _blocks(len(a), len(b)):
            yield Progress(turn, most, "iterations at most")
            costs = cost(start, stop)
            found = transform(costs.mT, f, a, blur)
            moved = max(moved, float((found - g[start:stop]).abs().max()))
            g[start:stop] = found
            more = torch.logaddexp(more, transform(costs, found, b[start:stop], blur) / -blur)
        if moved <= tolerance:
            break
    return -blur * more, g


def calibrated(g: Tensor, b: Tensor) -> Tensor:
    """(N,) by how much OT changes, to first order, for mass that is taken from all places alike and put to each: g − Σ b g."""
    return g - (b * g).sum()


def cosine_cost(one: Tensor, other: Tensor) -> Cost:
    """1 − cosine between the (M, D) and the (N, D) vectors of length 1; held where there is room for all."""
    held = dict[int, Tensor]()
    room = len(one) * len(other) <= HELD

    def cost(start: int, stop: int) -> Tensor:
        if start in held:
            return held[start]
        found = 1 - one @ other[start:stop].T
        if room:
            held[start] = found
        return found

    return cost


def _blocks(m: int, n: int) -> Iterator[tuple[int, int]]:
    step = max(1, AT_ONCE // max(1, m))
    return ((start, min(start + step, n)) for start in range(0, n, step))
