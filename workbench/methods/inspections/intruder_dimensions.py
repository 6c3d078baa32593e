"""Intruder dimensions: strong singular directions of a tuned matrix that are none of its base's.

What it is not: what making them weaker does, which takes rows (`intruder_removal.py`). After "LoRA vs Full Fine-tuning: An Illusion of
Equivalence". Tags as in the project's notes: [P] the paper's abstract, [R] read in the authors' code (reeceshuttle/intruder-dimensions),
[V] measured by us, [D] derived, [O] our own choice.
"""

import math
from collections.abc import Generator
from typing import Any

from workbench.core.events import Progress, Table
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.core.words import count
from workbench.materials.singular import Directions, best_match, directions, inside
from workbench.materials.subject import Subject, Weight
from workbench.methods.contracts import Inspection

MATRICES = ["model", "tensor", "layer", "part", "rows", "intruders", "lowest match", "match of a random direction"]
DIRECTIONS = ["model", "tensor", "layer", "part", "direction", "singular value", "best match", "inside the base's span"]
FEW = 64  # rows, below which a match says little [V]


class IntruderDimensions(Inspection, title="Intruder dimensions"):
    """See which strong directions of the tuned matrices are new ones that the base's do not have, as a LoRA often brings.

    $$s_j = \\max_i \\lvert \\langle u'_j, u_i \\rangle \\rvert, \\qquad j \\le k, \\qquad u'_j \\text{ intrudes if } s_j < \\epsilon$$

    u' are the left singular vectors of the tuned matrix, the strongest first, and u all those of the base's [R]. Full tuning turns and
    stretches the directions that are there; LoRA puts new ones above them, and such models forget more of what was known [P]. k = 10 and
    ε = 0.5, counted over all matrices [R]; here those inside the blocks [O].

    With d rows even a random direction matches one of the base's at about √(2 ln d / d) [D], measured 0.51 for 16 rows, 0.32 for 64 and
    0.14 for 512 [V]: with few rows ε must lie higher, and no count compares models of different widths. Where singular values of the base
    lie close together, a small change turns their vectors into mixtures, which look new and are not [D]. Of a matrix with more rows than
    columns the share of a direction that lies in the base's span tells the two apart: near 1 it is a mixture; in other matrices it is
    always 1 [D]. Directions weaker than a millionth of the strongest are left out, being rounding [O].
    """

    pictures = (
        Picture("matrices", "heat", "Intruder dimensions", x="part", y="layer", value="intruders"),
        Picture("matrices", "heat", "How well the strangest direction matches the base's", x="part", y="layer", value="lowest match"),
        Picture("directions", "points", "Match with the base, the strongest direction first", x="direction", y="best match"),
    )
    still = {"intruders": 0.0, "matrices with intruders": 0.0, "lowest match": 1.0}

    strongest: int = knob(10, ge=1, le=1000, help="how many of the strongest directions of each matrix are looked at", log=True)
    match: float = knob(0.5, gt=0, le=1, step=0.05, help="a direction whose best match with the base's lies below this is an intruder")
    widest: int = knob(
        4096, ge=2, le=65_536, label="widest matrix", help="only matrices whose smaller side is at most this", log=True, more=True
    )

    def costs(self) -> str:
        return "Takes the singular directions of each matrix of all models, the base too; minutes where they are thousands wide."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        matrices, found, skipped = list[list[Any]](), list[list[Any]](), 0
        for done, weight in enumerate(subject.weights(matrices=True)):
            yield Progress(done, len(subject.names), f"reading {weight.name}")
            if min(weight.base.shape) > self.widest:
                skipped += 1
                continue
            base = directions(weight.base.to(subject.device))
            for label, own in zip(subject.labels, weight.tuned, strict=True):
                rows = self._held(base, directions(own.to(subject.device)).strongest(self.strongest))
                found += [[label, weight.name, weight.layer, weight.part, place, *row] for place, row in enumerate(rows, start=1)]
                matrices.append([label, *self._counted(weight, [match for _, match, _ in rows])])
        found.sort(key=lambda row: row[6])
        tables = [Table("matrices", MATRICES, matrices), Table("directions", DIRECTIONS, found)]
        numbers = {label: _numbers([row for row in matrices if row[0] == label]) for label in subject.labels}
        says = [self._said(label, own, found) for label, own in numbers.items()]
        return Finding([*says, *self._warnings(matrices, skipped)], tables, numbers)

    def _held(self, base: Directions, own: Directions) -> list[list[float]]:
        """Of each direction its singular value, its best match and how much of it the base can write."""
        return [list(row) for row in zip(*(each.tolist() for each in (own.values, best_match(own, base), inside(own, base))), strict=True)]

    def _counted(self, weight: Weight, matches: list[float]) -> list[Any]:
        rows = weight.base.shape[0]
        intruders = sum(match < self.match for match in matches)
        return [weight.name, weight.layer, weight.part, rows, intruders, min(matches, default=None), by_chance(rows)]

    def _said(self, label: str, numbers: dict[str, float], found: list[list[Any]]) -> str:
        strangest = next((row for row in found if row[0] == label), None)
        if strangest is None:
            return f"{label} has no matrix that was looked at."
        where = f"{strangest[1]}, direction {strangest[4]} by strength, with a match of {strangest[6]:.2f}"
        if not numbers["intruders"]:
            return f"{label} has no intruder dimension; nearest to one comes {where}."
        intruders, share = int(numbers["intruders"]), numbers["matrices with intruders"]
        return f"{label} has {count(intruders, 'intruder dimension')}, in {share:.0%} of its matrices; the strangest is {where}."

    def _warnings(self, matrices: list[list[Any]], skipped: int) -> list[str]:
        said, fewest = [], min((row[4] for row in matrices), default=FEW)
        if fewest < FEW:
            said.append(
                f"There are matrices of {count(fewest, 'row')}, where even a random direction matches one of the base's at about "
                f"{by_chance(fewest):.2f}: a count says little here, so look at the matches themselves."
            )
        if skipped:
            said.append(
                f"{count(skipped, 'matrix was', 'matrices were')} left out, because both sides are longer than {self.widest}. "
                "Set widest higher to see them."
            )
        return said


def by_chance(rows: int) -> float:
    """About the best match of a random direction among that many orthonormal ones."""
    return min(1.0, math.sqrt(2 * math.log(rows) / rows)) if rows > 1 else 1.0


def _numbers(matrices: list[list[Any]]) -> dict[str, float]:
    lowest = [row[6] for row in matrices if row[6] is not None]
    if not lowest:
        return {}
    with_some = sum(row[5] > 0 for row in matrices)
    return {
        "intruders": float(sum(row[5] for row in matrices)),
        "matrices with intruders": with_some / len(matrices),
        "lowest match": min(lowest),
    }
