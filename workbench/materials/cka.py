"""How alike layers see the same rows: centred kernel alignment (Kornblith et al. 2019).

Of states X (N rows, any width) it compares which rows lie near one another, K = H X Xᵀ H with H the centring:

    CKA(X, Y) = ⟨K_X, K_Y⟩ / (‖K_X‖ ‖K_Y‖), between 0 and 1

It is 1 where one is a rotation of the other, scaled and shifted. In the place of the inner products X Xᵀ another kernel of the rows can
stand, as the Gaussian one of their distances. What it is not: a choice of layers (`methods/adapters/`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def alignment(states: Sequence[Tensor]) -> Tensor:
    """(L, L) float64 CKA of L states, (N, D) each; 0 with one that is the same for all rows."""
    kernels = torch.stack([torch.nn.functional.normalize(_kernel(own).flatten(), dim=0) for own in states])
    return kernels @ kernels.T


def beside(table: Tensor) -> Tensor:
    """(L,) of each layer the mean of `table` with the layer before it and the one after it; the first and the last have one of them."""
    near, ends = table.diagonal(1), table.new_zeros(1)
    there = torch.ones_like(near)
    total, count = (torch.cat([ends, own]) + torch.cat([own, ends]) for own in (near, there))
    return total / count.clamp(min=1)


def gaussian(states: Tensor) -> Tensor:
    """(N, N) float64 exp(−d² / 2σ²) of the distances d between rows; σ is the median distance of two rows, which takes the scale away."""
    apart = torch.cdist(states.double(), states.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    pairs = apart[torch.ones_like(apart).triu(1).bool()]
    return torch.exp(-apart / (2 * pairs.median()).clamp(min=torch.finfo(apart.dtype).tiny))


def without_strongest(states: Tensor, count: int) -> Tensor:
    """(N, D) float64 states, centred, without their `count` strongest principal components; all 0 where nothing but rounding is left."""
    centred = states.double() - states.double().mean(0)
    if not count:
        return centred
    strongest = torch.linalg.eigh(centred @ centred.T).eigenvectors[:, -count:]  # ascending
    left = centred - strongest @ (strongest.T @ centred)
    return left if left.norm() > 1e-6 * centred.norm() else torch.zeros_like(left)


def _kernel(states: Tensor) -> Tensor:
    centred = states.double() - states.double().mean(0)
    return centred @ centred.T
