"""How alike layers see the same rows: linear centred kernel alignment (Kornblith et al. 2019).

Of states X (N rows, any width) it compares which rows lie near one another, K = H X Xᵀ H with H the centring:

    CKA(X, Y) = ⟨K_X, K_Y⟩ / (‖K_X‖ ‖K_Y‖), between 0 and 1

It is 1 where one is a rotation of the other, scaled and shifted. What it is not: a choice of layers (`methods/adapters/`).
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


def _kernel(states: Tensor) -> Tensor:
    centred = states.double() - states.double().mean(0)
    return centred @ centred.T
