"""TIES: trim, elect a sign, and average those who agree. Knows nothing of files; large tensors come a block of rows at a time.

Tags as in the project's notes: [R] read in the authors' code (prateeky2806/ties-merging) or, where it says so, in mergekit 0.1.5;
[O] our own choice.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from workbench.core.deep import Deep
from workbench.core.method import knob
from workbench.materials.votes import combined, elected, told, trimmed, weighted
from workbench.methods.contracts import Merge, Slot


class TIES(Deep, Merge, title="TIES", paper="arXiv:2306.01708"):
    """Keep the largest changes of each model, settle by vote whether a number goes up or down, and average those who voted so.

    $$\\hat\\tau_i = \\mathrm{top}_d(\\tau_i), \\qquad \\gamma = \\mathrm{sgn} \\sum_i w_i \\hat\\tau_i, \\qquad
    \\theta = \\theta_0 + \\lambda\\, \\frac{\\sum_{i \\in A} w_i \\hat\\tau_i}{\\sum_{i \\in A} w_i}, \\qquad
    A = \\{ i : \\mathrm{sgn}\\, w_i \\hat\\tau_i = \\gamma \\}$$

    The vote is taken with the weights, as in mergekit; the authors have none, and equal weights are theirs [R]. A number at which the
    votes cancel gets +, as in mergekit; the authors give it the sign that most of the model has [R]. `trim` says of which numbers
    the largest share is kept: of each tensor's (mergekit) or of the whole model's at once (the authors) [R]. Kept is what is at least as
    large as the smallest that is to be kept, so numbers of one size stay or go together and a tensor may keep a few more [O].
    """

    kit = {"ties": {}}
    kit_defaults = {"density": 1.0}
    kit_knobs = {"density": "density", "lambda": "scale", "normalize": ("combine", {True: "mean", False: "sum"})}

    density: float = knob(0.2, gt=0, le=1, step=0.05, help="share of each model's changes that is kept, the largest ones")
    trim: Literal["tensor", "model"] = knob("tensor", help="whether that share is of each tensor or of the whole model", more=True)
    combine: Literal["mean", "sum", "largest"] = knob("mean", help="what becomes of those who agree", more=True)

    def across(self) -> bool:
        return self.trim == "model"

    def sizes(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        return [] if self.density == 1 else [(model - base).abs() for model in tuned]

    def ranks(self, counts: Sequence[tuple[int, int]]) -> list[list[int]]:
        return [[max(1, int(self.density * count))] for count, _ in counts]

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        stack, agree = self._elected(slot, base, tuned, weights)
        merged = combined(stack, agree, weights, self.combine)
        return base.double().add_(merged, alpha=self.scale_at(slot.depth)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `kept`, the share of all numbers of which at least one model's change was kept; `agree`, the share of all numbers at
        which nothing that was kept went against the vote."""
        return {"scale": self.scale_at(slot.depth), **told(*self._elected(slot, base, tuned, weights))}

    def _elected(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
        """(M, …) float64: the weighted changes that are left after trimming, and where they go with the vote."""
        stack = weighted(trimmed(base, tuned, self.known(slot, base, tuned, weights).cuts), weights)
        return stack, elected(stack)
