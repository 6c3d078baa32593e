"""Low-rank changes as their two factors: added exactly, cut to fewer directions, and found in a change that is not low-rank itself.

A change is Δ = left·right, (out, r) times (r, in), and is never written out here: a sum has the factors side by side, and its singular
values are those of a matrix as small as the ranks. All arithmetic is float64. Knows no file, no method and no spec.
Tags as in the project's notes: [R] read in peft 0.21.2 (`add_weighted_adapter`), [V] measured by us, [K] known, [O] our own choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.materials.chance import uniform
from workbench.materials.lora import Factors

SPARE = 16  # directions more than wanted in which a dense change is sought
ROUNDS = 4  # readings of the change, forth and back, which turn them towards the largest


@dataclass(frozen=True)
class Cut:
    """A change of rank r or less. energy: ‖Δ‖² (Frobenius) of the change it was cut from; lost: the share of it that is gone."""

    factors: Factors
    energy: float
    lost: float

    @property
    def rank(self) -> int:
        return self.factors.right.shape[0]


def added(parts: Sequence[tuple[float, Factors]]) -> Factors:
    """Σ sᵢΔᵢ exactly: [s₁B₁, s₂B₂, …] times [A₁; A₂; …], of rank Σ rᵢ; this is peft's `cat` [R]. What has the share 0 takes no room.

    The shares stand in the left factor, where `Factors` has the adapter's own scale; peft has both in A [R]. A model that does not adapt
    the matrix is left out of `parts`, which is to add zero.
    """
    kept = [(share, factors) for share, factors in parts if share != 0] or [(0.0, parts[0][1])]
    left = torch.cat([factors.left * share for share, factors in kept], 1)
    return Factors(left, torch.cat([factors.right for _, factors in kept]))


def cut(factors: Factors, rank: int) -> Cut:
    """The nearest change of at most this rank, without writing the change out: peft's `svd` in a hundredth of the time [V].

    With left = Q_b·R_b and rightᵀ = Q_a·R_a the singular values of Δ are those of R_b·R_aᵀ, which is as small as the ranks. The result
    has the root of each singular value in both factors, so that neither is small where a training goes on from it; peft leaves them
    all in B [O]. Directions that are nothing but rounding are left out; one is always there.
    """
    left, upper = torch.linalg.qr(factors.left)
    right, lower = torch.linalg.qr(factors.right.T)
    turned, sizes, turned_back = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    rounding = 8 * torch.finfo(torch.float64).eps * float(upper.norm() * lower.norm())
    found = int((sizes > rounding).sum())
    kept = max(1, min(rank, found))
    squares, roots = sizes[:found].square(), sizes[:kept].sqrt()
    energy = float(squares.sum())
    lost = float(squares[kept:].sum()) / energy if energy else 0.0
    return Cut(Factors((left @ turned[:, :kept]) * roots, roots[:, None] * (turned_back[:kept] @ right.T)), energy, lost)


def cut_dense(blocks: Sequence[Tensor], rank: int) -> Cut:
    """A change of at most this rank near one that has any rank and comes as blocks of rows, (rows, in) each.

    The randomised singular value decomposition of Halko, Martinsson and Tropp (arXiv:0909.4061) [K]: random directions, the same each
    time, turned towards the largest by reading the change forth and back. What it misses of the best cut is told: `lost` is measured on
    the change itself. Other blocks change the last digits of float64 and no more. `rank` directions are enough for a change that has
    no more; those of a trimmed change (TIES, DARE) fall off slowly, so much is lost whatever the rank. The blocks may lie on a GPU; the
    factors come to main memory, where what is left is as small as the rank.
    """
    rows, columns = sum(len(block) for block in blocks), blocks[0].shape[1]
    width = min(rank + SPARE, rows, columns)
    across = uniform(0, "directions", 0, (columns, width)).double().sub_(0.5).to(blocks[0].device)
    for _ in range(ROUNDS):
        across = torch.linalg.qr(_back(blocks, torch.linalg.qr(_forth(blocks, across)).Q)).Q
    down = torch.linalg.qr(_forth(blocks, across)).Q
    near = cut(Factors(down.cpu(), _back(blocks, down).T.cpu()), rank)
    energy = math.fsum(float(block.double().square().sum()) for block in blocks)
    kept = near.energy * (1 - near.lost)
    return Cut(near.factors, energy, max(0.0, 1 - kept / energy) if energy else 0.0)


def halves(factors: Factors) -> tuple[Tensor, Tensor]:
    """(A√s, B√s) of Δ = s·B·A, as peft has them where it merges A and B apart; a negative s has its sign on A [R]."""
    root, sign = math.sqrt(abs(factors.scale)), math.copysign(1.0, factors.scale)
    return factors.right * (sign * root), factors.left / (sign * root) if root else factors.left


def half_weights(weights: Sequence[float]) -> tuple[list[float], list[float]]:
    """(of A, of B): the root of each weight on both sides, its sign on A's [R]."""
    roots = [math.sqrt(abs(weight)) for weight in weights]
    return [math.copysign(root, weight) for root, weight in zip(roots, weights, strict=True)], roots


def _forth(blocks: Sequence[Tensor], across: Tensor) -> Tensor:
    """(out, k) Δ·across."""
    return torch.cat([block.double() @ across for block in blocks])


def _back(blocks: Sequence[Tensor], down: Tensor) -> Tensor:
    """(in, k) Δᵀ·down."""
    total, first = down.new_zeros(blocks[0].shape[1], down.shape[1]), 0
    for block in blocks:
        total += block.double().T @ down[first : first + len(block)]
        first += len(block)
    return total
