"""The strongest directions of a matrix that is only ever applied, never written out, by subspace iteration.

What it is not: the choice of the matrix (WᵀW of a weight, GᵀG of a gradient, …), which is a method's. The steps stand apart, because one
that applies a gradient is a pass over rows: `begin`, in turn apply and `straighten`, take the `strongest` of what was applied last.
"""

from collections.abc import Callable

import torch
from torch import Tensor

ROUNDS = 6


def begin(size: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(size, w) orthonormal directions to begin with, twice as many as are wanted or, where that is the whole space, all there are."""
    width = min(2 * count, size)
    if width == size:
        return torch.eye(size, device=device)
    return straighten(torch.randn(size, width, generator=generator).to(device))


def straighten(applied: Tensor) -> Tensor:
    """Orthonormal directions that span the same."""
    return torch.linalg.qr(applied).Q


def strongest(applied: Tensor, count: int) -> Tensor:
    """(…, count) orthonormal: the strongest directions of what the matrix made of orthonormal ones, strongest first."""
    return torch.linalg.svd(applied, full_matrices=False).U[:, :count].contiguous()


def leading(apply: Callable[[Tensor], Tensor], size: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(size, count) orthonormal: the eigenvectors of largest size of a normal matrix (one that commutes with its transpose)."""
    basis = begin(size, count, generator, device)
    for _ in range(ROUNDS if basis.shape[1] < size else 0):
        basis = straighten(apply(basis))
    return strongest(apply(basis), count)
