"""CLAIR: LoRA adapters merged by the subspace that most of them share. How it is found: `materials/subspace.py`.

What it is not: a score of an adapter over all its matrices, which is the inspection `shared_subspace.py`; a merge goes matrix by matrix.

Tags as in the project's notes: [P] the paper's abstract, whose algorithm was not read, [O] our own reconstruction or choice, [V] tried in
numbers.
"""

from collections.abc import Sequence

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.materials.factors import added
from workbench.materials.lora import Factors
from workbench.materials.subspace import shared
from workbench.methods.contracts import FactorMerge, Slot


class Clair(FactorMerge, title="CLAIR", paper="arXiv:2605.21217"):
    """Average LoRA adapters, and keep out what an adapter writes outside of the subspace that most of them share.

    $$\\Delta W = U U^\\top \\sum_k s_k\\, \\Delta W_k + (I - U U^\\top) \\sum_{j\\ \\mathrm{inside}} \\frac{s_j}{s}\\, \\Delta W_j, \\qquad
    s = \\sum_{j\\ \\mathrm{inside}} s_j$$

    U spans what the group's changes to a matrix write into: their part of low rank, next to one that is zero but for whole adapters
    [P], with γ = √r·K^(−1/4) between the two [O][V]. An adapter is outside where more than the threshold of its change is, by
    ‖(I − UUᵀ)ΔWₖ‖ over ‖ΔWₖ‖: planted strangers had 0.94 and more, members 0.10 and less [V]; the largest gap, the other way to tell
    them, is there in any group. It keeps what it has inside, and the rest is the others' mean (the paper's refinement, with weights
    [O]); with refine off it is left out.

    The numbers say who does not share the group's subspace, matrix by matrix; adapters of unrelated tasks do so rightfully. Where as
    many are outside as inside there is no group to go by, and where fewer than three adapters change a matrix no telling: both get the
    plain mean [O]. An adapter that leaves a matrix alone changes it by zero and counts in the mean.
    """

    least = 3

    refine: bool = knob(True, help="an adapter outside keeps its part inside and takes the rest from the others' mean; off, it is left out")
    threshold: float = knob(0.5, ge=0, le=1, step=0.05, help="share of its change that an outsider has outside of the subspace", more=True)

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if not all(weight > 0 for weight in weights):
            found.append("CLAIR takes a mean over a group, so every weight must be above zero. Raise the others, or leave models out.")
        return found

    def factors(self, slot: Slot, tuned: Sequence[Factors], weights: Sequence[float]) -> tuple[Factors, dict[str, float]]:
        """`outside 1`, `outside 2`, …: the share of each adapter's change outside; `flagged`: how many are above the threshold."""
        found = shared(tuned)
        outside = [score > self.threshold for score in found.scores]
        told = {f"outside {number}": score for number, score in enumerate(found.scores, 1)} | {"flagged": float(sum(outside))}
        if 2 * sum(outside) >= found.moving:
            outside = [False] * len(tuned)
        shares = _mean(weights)
        rests = _mean([0.0 if out else weight for weight, out in zip(weights, outside, strict=True)])
        if not any(outside) or not self.refine:
            return added(list(zip(rests, tuned, strict=True))), told
        insides = [found.inside(change.left) for change in tuned]
        lefts = [
            share * inside + rest * (change.left - inside)
            for share, rest, inside, change in zip(shares, rests, insides, tuned, strict=True)
        ]
        return added([(1.0, Factors(left, change.right)) for left, change in zip(lefts, tuned, strict=True)]), told


def _mean(weights: Sequence[float]) -> list[float]:
    """Shares that add up to 1."""
    if sum(weights) <= 0:
        raise WorkbenchError("CLAIR: the adapters that share the group's subspace have no weight here. Give them one.")
    return [weight / sum(weights) for weight in weights]
