"""The subspace that most of several low-rank changes of one matrix write into, and how much of each change lies outside of it.

The changes ΔWₖ = BₖAₖ, (out, in) each and scaled to norm 1, stand side by side in M = [ΔW₁ | … | ΔW_K], and M is taken apart:

    min ‖L‖_* + γ Σₖ ‖Sₖ‖_F   with L + S = M,   γ = √r · K^(−1/4)

L is of low rank, S is zero in whole blocks, so that a change of another subspace goes into S entirely. γ lies between the two ways to
fail, as their geometric mean: under √(r/K) those who share a subspace land in S, above √r a stranger lands in L [O]. Of the project's
two notes this is the one that was tried on several planted groups [V]; the other has 1.6·√(r/K), tried on one (0.80 there, and γ 0.93).

No matrix of out × K·in numbers is ever there. With [B₁ … B_K] = Q·[R₁ … R_K] and Aₖᵀ = PₖTₖ (QR), ΔWₖ = Q·Cₖ·Pₖᵀ with Cₖ = RₖTₖᵀ, so
M = Q·[C₁ | … | C_K]·diag(P₁ … P_K)ᵀ. Both outer factors have orthonormal columns: M's singular values are those of [C₁ | … | C_K], the
norm of its k-th block is that of Cₖ, and so each step below, which changes singular values or scales blocks, does with the C's what it
would do with M. They have Σr rows and columns, however large the matrix is.

What it is not: a merge (`methods/merges/`), or a verdict. Who lies outside does not share the group's subspace; adapters of unrelated
tasks do so rightfully. Tags as in the project's notes: [P] the paper's abstract (CLAIR, arXiv:2605.21217), whose algorithm was not read,
[O] our own reconstruction, [V] tried in numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import torch
from torch import Tensor

from workbench.materials.lora import Factors

FEW = 3  # changes below which there is no telling who is the stranger
STEPS = 300
ENOUGH = 1e-7  # of ‖M‖: what L + S may differ from M
GROWTH = 1.02  # of the penalty μ at each step
FAINT = 1e-6  # of ‖M‖: a direction of L below this is none


@dataclass(frozen=True)
class Shared:
    """What a group of changes has in common.

    basis: (out, r') float64, orthonormal columns, r' ≤ the median rank; without columns where nothing is shared or too few were there.
    scores: of each change ‖(I − UUᵀ)ΔWₖ‖/‖ΔWₖ‖, from 0 (inside) to 1; 0 of what is zero, and of all where fewer than `FEW` are not.
    moving: how many of them are not zero.
    """

    basis: Tensor
    scores: tuple[float, ...]
    moving: int

    def inside(self, left: Tensor) -> Tensor:
        """UUᵀ·left, the part of (out, …) columns that lies in the subspace."""
        return self.basis @ (self.basis.T @ left)


def shared(changes: Sequence[Factors]) -> Shared:
    """The subspace of the majority among the changes of one matrix, which may have any scales and ranks, and rank 0 too."""
    moving = [place for place, change in enumerate(changes) if _moves(change)]
    scores = [0.0] * len(changes)
    if len(moving) < FEW:
        return Shared(changes[0].left[:, :0].double(), tuple(scores), len(moving))
    turned, cores = _reduced([changes[place] for place in moving])
    blocks = [core / core.norm() for core in cores]
    rank = median_low(int(torch.linalg.matrix_rank(block)) for block in blocks)
    low, _ = parted(blocks, balance(rank, len(blocks)))
    basis = _leading(low, rank, FAINT * len(blocks) ** 0.5)  # ‖M‖ is √K
    for place, block in zip(moving, blocks, strict=True):
        scores[place] = min(1.0, float((block - basis @ (basis.T @ block)).norm()))
    return Shared(turned @ basis, tuple(scores), len(moving))


def balance(rank: int, count: int) -> float:
    """γ: how much a block in S costs, for changes of this rank, `count` of them."""
    return rank**0.5 * count**-0.25


def parted(blocks: Sequence[Tensor], gamma: float) -> tuple[Tensor, Tensor]:
    """(L, S) with L + S = [C₁ | … | C_K] to within `ENOUGH`, both (rows, Σ columns), by alternating directions (ADMM) [O].

    L gets the singular values less 1/μ, each block of S its norm less γ/μ, what is missing is pressed for in Y, and μ grows.
    """
    whole, widths = torch.cat(list(blocks), 1), [block.shape[1] for block in blocks]
    sparse, force = torch.zeros_like(whole), torch.zeros_like(whole)
    low, penalty = sparse, 1.25 / float(torch.linalg.matrix_norm(whole, 2))
    for _ in range(STEPS):
        low = _flattened(whole - sparse + force / penalty, 1 / penalty)
        sparse = torch.cat([_shrunk(part, gamma / penalty) for part in (whole - low + force / penalty).split(widths, 1)], 1)
        missing = whole - low - sparse
        if missing.norm() <= ENOUGH * whole.norm():
            break
        force = force + penalty * missing
        penalty *= GROWTH
    return low, sparse


def _flattened(matrix: Tensor, by: float) -> Tensor:
    """The matrix with each singular value less `by`, and none below zero.

    By the eigenvectors of matrix·matrixᵀ, in a fraction of the time; the small values that squaring blurs are those that go to zero.
    """
    squares, turned = torch.linalg.eigh(matrix @ matrix.T)
    sizes = squares.clamp_min(0).sqrt()
    kept = sizes > by
    basis = turned[:, kept]
    return (basis * (1 - by / sizes[kept])) @ (basis.T @ matrix)


def _shrunk(block: Tensor, by: float) -> Tensor:
    return block * (1 - by / block.norm()).clamp_min(0)


def _leading(low: Tensor, rank: int, faint: float) -> Tensor:
    """At most `rank` left singular vectors of L, those whose values are more than `faint`."""
    turned, sizes, _ = torch.linalg.svd(low, full_matrices=False)
    return turned[:, : min(rank, int((sizes > faint).sum()))]


def _reduced(changes: Sequence[Factors]) -> tuple[Tensor, list[Tensor]]:
    """Q (out, p) and the cores Cₖ (p, qₖ) of changes that are not zero."""
    turned, upper = torch.linalg.qr(torch.cat([change.left for change in changes], 1).double())
    sides = upper.split([change.left.shape[1] for change in changes], 1)
    return turned, [side @ torch.linalg.qr(change.right.T.double()).R.T for side, change in zip(sides, changes, strict=True)]


def _moves(change: Factors) -> bool:
    """Whether the change is more than the rounding of its factors."""
    lower, upper = (torch.linalg.qr(side.double()).R for side in (change.left, change.right.T))
    return float((lower @ upper.T).norm()) > 8 * torch.finfo(torch.float64).eps * float(lower.norm() * upper.norm())
