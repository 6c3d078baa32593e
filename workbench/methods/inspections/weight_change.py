"""How far each weight moved from the base, and in how many directions: norms, ranks, and how many numbers changed at all.

What it is not: a paper's method. It is what the field looks at first, and what other inspections stand beside.
Tags as in the project's notes: [K] known, [D] derived, [O] our own choice.
"""

import math
from collections.abc import Generator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.subject import Subject, Weight
from workbench.methods.contracts import Inspection

MOVED = ["model", "tensor", "layer", "part", "relative change", "norm of the change", "spectral norm", "stable rank", "effective rank",
         "numbers changed", "largest change"]  # fmt: skip
ALIKE = ["tensor", "layer", "part", "model", "other model", "cosine", "same sign"]


class WeightChange(Inspection, title="Weight change"):
    """See in which layers and modules tuning moved the weights, how far, and in how many directions.

    $$\\frac{\\lVert \\Delta W \\rVert_F}{\\lVert W_0 \\rVert_F}, \\qquad
    r_{\\mathrm{stable}} = \\frac{\\lVert \\Delta W \\rVert_F^2}{\\sigma_1^2}, \\qquad
    r_{\\mathrm{eff}} = \\exp\\Big(-\\sum_i p_i \\log p_i\\Big), \\quad p_i = \\frac{\\sigma_i^2}{\\sum_j \\sigma_j^2}$$

    σ are the singular values of the change ΔW = W₁ − W₀ [K]. Both ranks are 1 for a change along one direction, and at most the rank of a
    LoRA [D]. A part of the numbers may not have changed at all: those that an adapter leaves alone, and those whose change was lost below
    the last digit of a half-precision weight [O]. Of two models it tells how alike their changes are: 1 is the same direction, 0 none in
    common. Norms and counts read each tensor once; the ranks take the singular values of each matrix.
    """

    pictures = (
        Picture("weight change", "heat", "How far the weights moved", x="part", y="layer", value="relative change"),
        Picture("weight change", "heat", "In how many directions they moved", x="part", y="layer", value="effective rank"),
        Picture("cosines", "heat", "How alike two models' changes are", x="part", y="layer", value="cosine", each="other model"),
    )
    still = {"relative change": 0.0, "numbers changed": 0.0}

    ranks: bool = knob(True, label="ranks too", help="whether the ranks are wanted, which take most of the time")
    widest: int = knob(
        2048, ge=2, le=65_536, label="widest matrix for ranks", help="ranks only of matrices whose smaller side is at most this", log=True,
        more=True,
    )  # fmt: skip

    def costs(self) -> str:
        return "Reads all weights of all models once" + ("; the ranks take the singular values of each matrix." if self.ranks else ".")

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        moved, alike = list[list[Any]](), list[list[Any]]()
        sums = [torch.zeros(4, dtype=torch.float64) for _ in subject.labels]  # squares of the change, of the base, changed, numbers
        for done, weight in enumerate(subject.weights()):
            yield Progress(done, len(subject.names), f"reading {weight.name}")
            changes = [own.double() - weight.base.double() for own in weight.tuned]
            for label, change, own, total in zip(subject.labels, changes, weight.tuned, sums, strict=True):
                total += torch.tensor([_square(change), _square(weight.base), int((own != weight.base).sum()), own.numel()])
                moved.append([label, weight.name, weight.layer, weight.part, *self._measured(change, own, weight)])
            for one, other in combinations(range(len(changes)), 2):
                told = [subject.labels[one], subject.labels[other], *_alike(changes[one], changes[other])]
                alike.append([weight.name, weight.layer, weight.part, *told])
        tables = [Table("weight change", MOVED, moved), *([Table("cosines", ALIKE, alike)] if alike else [])]
        numbers = {label: _numbers(total) for label, total in zip(subject.labels, sums, strict=True)}
        return Finding([_said(label, own, moved) for label, own in numbers.items()], tables, numbers)

    def _measured(self, change: Tensor, own: Tensor, weight: Weight) -> list[float | None]:
        """The numbers of one tensor, in the order of `MOVED`; a ratio to nothing is None."""
        norm, before = math.sqrt(_square(change)), math.sqrt(_square(weight.base))
        ranks = ranks_of(change) if self.ranks and change.dim() == 2 and min(change.shape) <= self.widest and norm else (None, None, None)
        changed = int((own != weight.base).sum()) / max(1, own.numel())
        largest = float(change.abs().max()) if change.numel() else 0.0
        return [norm / before if before else None, norm, *ranks, changed, largest]


def ranks_of(change: Tensor) -> tuple[float, float, float]:
    """Spectral norm, stable rank and effective rank of a matrix that is not 0, from the eigenvalues of its smaller Gram matrix."""
    matrix = change.double()
    squares = torch.linalg.eigvalsh(matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix).clamp(min=0)
    shares = squares / squares.sum()
    entropy = -torch.special.xlogy(shares, shares).sum()
    return float(squares[-1].sqrt()), float(squares.sum() / squares[-1]), float(entropy.exp())


def _square(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())


def _alike(one: Tensor, other: Tensor) -> tuple[float | None, float | None]:
    """Cosine of two changes, and the share of the numbers that both move which go the same way; None where nothing moved."""
    sizes = math.sqrt(_square(one) * _square(other))
    both = (one != 0) & (other != 0)
    same = float((one[both].sign() == other[both].sign()).double().mean()) if both.any() else None
    return float((one * other).sum()) / sizes if sizes else None, same


def _numbers(total: Tensor) -> dict[str, float]:
    change, before, changed, count = total.tolist()
    return {"relative change": math.sqrt(change / before) if before else 0.0, "numbers changed": changed / max(1.0, count)}


def _said(label: str, numbers: dict[str, float], moved: list[list[Any]]) -> str:
    own = [row for row in moved if row[0] == label and row[4]]
    if not own:
        return f"{label} has the base's weights, number for number."
    most = max(own, key=lambda row: row[4])
    return (
        f"{label} moved by {numbers['relative change']:.2%} of the base's norm, most in {most[1]} ({most[4]:.2%}); "
        f"{numbers['numbers changed']:.1%} of the numbers changed."
    )
