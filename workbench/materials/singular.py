"""The singular directions of a matrix, how those of another lie to them, and the matrix with some of them made weaker.

In float64 by the eigenvectors of the smaller of W Wᵀ and Wᵀ W, which costs a fraction of a decomposition of W itself [D]. Singular values
are known down to about 1e-7 of the largest that way; directions below `FAINT` of it are those of the rounding to float32 and are left out.
What it is not: which directions are worth a word (`methods/inspections/`). Tags: [D] derived, [O] our own choice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FAINT = 1e-6  # of the largest singular value [O]


@dataclass(frozen=True)
class Directions:
    """W = Σᵢ σᵢ uᵢ vᵢᵀ: `values` (r,) the strongest first, `left` (m, r), `right` (n, r), all float64; r = 0 of a matrix of zeros."""

    values: Tensor
    left: Tensor
    right: Tensor

    def strongest(self, count: int) -> "Directions":
        return Directions(self.values[:count], self.left[:, :count], self.right[:, :count])

    def chosen(self, which: Tensor) -> "Directions":
        """Those at the places where (r,) `which` is true."""
        return Directions(self.values[which], self.left[:, which], self.right[:, which])

    def whole(self) -> Tensor:
        """(m, n) their part of the matrix."""
        return (self.left * self.values) @ self.right.T


def directions(matrix: Tensor) -> Directions:
    """Of an (m, n) matrix, without the faint ones."""
    own = matrix.double()
    wide = own.shape[0] <= own.shape[1]
    squares, vectors = torch.linalg.eigh(own @ own.T if wide else own.T @ own)
    values, vectors = squares.clamp(min=0).sqrt().flip(0), vectors.flip(1)
    there = values > FAINT * values[:1]
    values, near = values[there], vectors[:, there]
    far = (own.T if wide else own) @ near / values
    return Directions(values, near, far) if wide else Directions(values, far, near)


def best_match(of: Directions, among: Directions) -> Tensor:
    """(k,) max_i |⟨u'_j, u_i⟩| of each direction over all left vectors of the other matrix; 0 where that has none."""
    cosines = (of.left.T @ among.left).abs()
    return cosines.amax(1).clamp(max=1) if cosines.shape[1] else cosines.sum(1)


def inside(of: Directions, among: Directions) -> Tensor:
    """(k,) ‖UUᵀu'_j‖, how much of each direction lies in what the other matrix can write at all."""
    return (among.left.T @ of.left).norm(dim=0).clamp(max=1)
