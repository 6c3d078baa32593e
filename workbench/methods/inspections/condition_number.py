"""Condition numbers: how unevenly each matrix stretches directions, and whether tuning changed that.

What it is not: the adapter that trains the matrices with the lowest ones (`adapters/kappatune.py`). After "The Condition Number as a
Scale-Invariant Proxy for Information Encoding in Neural Units", 2025 (the authors' repository names arXiv:2506.16289). Tags as in the
project's notes: [P] the authors' summary, [R] read in their code (oswaldoludwig/kappaTune), [D] derived, [O] our own choice.
"""

import math
from collections.abc import Generator
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.core.words import count, number
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

MATRICES = ["model", "tensor", "layer", "part", "condition number", "decades", "times the base's"]
LOWEST = ["model", "place", "tensor", "condition number"]
BASE, TIMES = "the base", "times the base's"
SURE = 1e12  # squares of singular values that lie further apart than this are not told by their Gram matrix [O]
FAINT = 2.0**-23  # of the largest singular value: a smaller one is float32's rounding of a zero [O]


class ConditionNumber(Inspection, title="Condition numbers"):
    """See which matrices stretch all directions nearly alike and which hold some of them almost still, in the base and as tuned.

    $$\\kappa(W) = \\frac{\\sigma_{\\max}(W)}{\\sigma_{\\min}(W)}$$

    κ is 1 of a rotation and infinite where a direction is lost; multiplying a matrix by a number does not change it. Say the authors, a
    matrix with a high κ holds specialised knowledge in few directions, and one with a low κ can be moved without writing over much: train
    the matrices with the lowest κ, and less is forgotten [P]. A hundred is the authors' default, twenty in their examples [R]; the
    adapter KappaTune does that here.

    A matrix that loses a direction has no κ and is never among the lowest. Looked at are the matrices inside the blocks, as for that
    adapter [O]. The smallest singular value is the one that a small change moves most, compared with itself: κ may change much where the
    weights hardly did [D].
    """

    pictures = (
        Picture("condition numbers", "heat", "Condition numbers (powers of ten)", x="part", y="layer", value="decades"),
        Picture("condition numbers", "heat", "How many times the base's", x="part", y="layer", value="times the base's"),
    )
    still = {"times the base's": 1.0}

    widest: int = knob(16_384, ge=2, le=1_000_000, help="matrices with a longer side are left out", log=True, more=True)

    def costs(self) -> str:
        return "Takes the singular values of each matrix of all models, the base too; minutes where they are thousands wide."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        rows, skipped = list[list[Any]](), 0
        for done, weight in enumerate(subject.weights(matrices=True)):
            yield Progress(done, len(subject.names), f"reading {weight.name}")
            if max(weight.base.shape) > self.widest:
                skipped += 1
                continue
            kappas = [condition(own.to(subject.device)) for own in (weight.base, *weight.tuned)]
            for label, own in zip((BASE, *subject.labels), kappas, strict=True):
                times = None if label == BASE or math.inf in (own, kappas[0]) else own / kappas[0]
                rows.append([label, weight.name, weight.layer, weight.part, *_written(own), times])
        own_rows = {label: [row for row in rows if row[0] == label] for label in (BASE, *subject.labels)}
        lowest = [row for own in own_rows.values() for row in _lowest(own)]
        numbers = {label: _numbers(own_rows[label]) for label in subject.labels}
        says = [_said(label, numbers[label], own_rows[label]) for label in subject.labels]
        says += [sentence for label, own in own_rows.items() for sentence in _flat(label, own)]
        if skipped:
            left = count(skipped, "matrix was", "matrices were")
            says.append(f"{left} left out, because a side is longer than {self.widest}. Set widest higher to see them.")
        return Finding(says, [Table("condition numbers", MATRICES, rows), Table("lowest", LOWEST, lowest)], numbers)


def condition(matrix: Tensor) -> float:
    """κ of an (m, n) matrix; infinite where it has fewer directions than its smaller side, or is 0."""
    own = matrix.double()
    squares = torch.linalg.eigvalsh(own @ own.T if own.shape[0] <= own.shape[1] else own.T @ own)
    if 0 < float(squares[-1]) < SURE * float(squares[0]):
        return math.sqrt(float(squares[-1] / squares[0]))
    values = torch.linalg.svdvals(own)
    return float(values[0] / values[-1]) if values[-1] > FAINT * values[0] else math.inf


def _written(kappa: float) -> list[float | None]:
    return [kappa, math.log10(kappa)] if math.isfinite(kappa) else [None, None]


def _lowest(rows: list[list[Any]]) -> list[list[Any]]:
    """Those that have one, the lowest first."""
    ordered = sorted((row for row in rows if row[4] is not None), key=lambda row: (row[4], row[1]))
    return [[row[0], place, row[1], row[4]] for place, row in enumerate(ordered, start=1)]


def _numbers(rows: list[list[Any]]) -> dict[str, float]:
    """The median, and the geometric mean of the times that it is the base's; nothing where no matrix has one."""
    kappas, times = ([row[place] for row in rows if row[place] is not None] for place in (4, 6))
    found = {"median condition number": median(kappas)} if kappas else {}
    return found | ({"times the base's": math.exp(fmean(map(math.log, times)))} if times else {})


def _said(label: str, numbers: dict[str, float], rows: list[list[Any]]) -> str:
    if not numbers:
        return f"{label} has no matrix with a condition number."
    most = max((row for row in rows if row[6] is not None), key=lambda row: abs(math.log(row[6])), default=None)
    moved = f", most in {most[1]} ({most[6]:.3g} times)" if most is not None and most[6] != 1 else ""
    times = f", {numbers[TIMES]:.3g} times the base's on average{moved}" if TIMES in numbers else ""
    return f"The median condition number of {label} is {number(numbers['median condition number'])}{times}."


def _flat(label: str, rows: list[list[Any]]) -> list[str]:
    """A sentence where matrices have none."""
    flat = sum(row[4] is None for row in rows)
    return [f"{count(flat, 'matrix', 'matrices')} of {label} without a condition number: a whole direction is lost there."] if flat else []
