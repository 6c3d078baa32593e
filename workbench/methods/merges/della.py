"""DELLA: drop changes at random, small ones more often. Knows nothing of files; large tensors come to it a block of rows at a time.

Tags as in the project's notes: [R] read in the authors' code (declare-lab/della) or, where it says so, in mergekit 0.1.5; [O] our own
choice.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from workbench.core.deep import Deep
from workbench.core.method import knob
from workbench.materials.chance import uniform
from workbench.materials.votes import changes, combined, elected, lengths, restoring, told, weighted
from workbench.methods.contracts import Merge, Slot


class DELLA(Deep, Merge, title="DELLA", paper="arXiv:2406.11617"):
    """Drop changes at random, the small ones of a row more often than the large ones, then settle each number by vote.

    $$p_{ij} = d - \\epsilon + 2 \\epsilon \\, \\frac{r_{ij} - 1}{n - 1}, \\qquad \\hat\\tau_{ij} = \\frac{m_{ij} \\tau_{ij}}{p_{ij}},
    \\qquad m_{ij} \\sim \\mathrm{Bernoulli}(p_{ij})$$

    Here r is the rank of |τ| in its row of n numbers, 1 for the smallest, so a row keeps the share d on average. A vector is one row; a
    row of one number has p = d, where mergekit divides by zero [R]. Equal sizes are ranked by their place [O]. Dividing by p, as the
    authors do [R], keeps each change's expected size; `rescale: L1` gives each tensor its Σ|τ| back instead, as mergekit does [R].

    `combine: ties` takes the weighted mean of those who agree with the vote, as the authors and mergekit do; nothing is trimmed [R].
    `combine: sum` leaves the vote out (mergekit's della_linear).

    mergekit refuses an ε that does not fit between 0 and 1 around the density. Here ε is then as large as fits, so that the share stays
    d; with density 1 nothing is dropped [O]. Where p reaches down to 0, the smallest change of a row is never kept. A draw belongs to a
    number's place in its tensor and to the model's place in the list, so the same seed gives the same model in any blocks [O]. The
    authors' example has d = 0.7 and ε = 0.07; mergekit's usual ε is 0.15 [R].
    """

    kit = {"della": {"combine": "ties"}, "della_linear": {"combine": "sum"}}
    kit_defaults = {"density": 1.0, "rescale": "L1"}
    kit_knobs = {"density": "density", "epsilon": "epsilon", "lambda": "scale", "rescale": ("rescale", {True: "L1", False: "none"})}

    ordered = True

    density: float = knob(0.7, gt=0, le=1, step=0.05, help="share of each model's changes that is kept on average")
    epsilon: float = knob(0.15, ge=0, le=0.5, step=0.01, help="ε: how much likelier the largest change of a row is kept than that")
    combine: Literal["ties", "sum"] = knob("ties", help="let what is left vote as in TIES, or add it")
    rescale: Literal["1/probability", "L1", "none"] = knob(
        "1/probability", help="how what is left makes up for what was dropped", more=True
    )
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which changes are dropped", more=True)

    def totals(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor | None:
        if self.rescale != "L1":
            return None
        stack = changes(base, tuned)
        return lengths(stack, self._dropped(slot, stack))

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        stack = self._left(slot, base, tuned, weights)
        merged = combined(stack, elected(stack), weights, "mean") if self.combine == "ties" else stack.sum(0)
        return base.double().add_(merged, alpha=self.scale_at(slot.depth)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `epsilon`, the ε that fits; `kept`, the share of all numbers at which at least one model's change is left; `agree`,
        the share of all numbers at which nothing that is left goes against the vote."""
        stack = self._left(slot, base, tuned, weights)
        return {"scale": self.scale_at(slot.depth), "epsilon": self._width(), **told(stack, elected(stack))}

    def _left(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """(M, …) float64: the weighted changes that are left, rescaled."""
        stack = self._dropped(slot, changes(base, tuned))
        if self.rescale == "L1":
            found = self.known(slot, base, tuned, weights).totals
            assert found is not None
            stack = weighted(stack, restoring(found))
        return weighted(stack, weights)

    def _dropped(self, slot: Slot, stack: Tensor) -> Tensor:
        """The changes that are left, divided by their probability if that is how they are rescaled."""
        shape = stack.shape[1:]
        first, left = slot.first * math.prod(shape[1:]), []
        for index, change in enumerate(stack):
            chance = self._probabilities(change.abs())
            kept = uniform(self.seed, f"{slot.name}:{index}", first, shape).to(chance.device) < chance
            left.append(torch.where(kept, change / chance if self.rescale == "1/probability" else change, 0.0))
        return torch.stack(left)

    def _probabilities(self, sizes: Tensor) -> Tensor:
        """Of each change the probability that it is kept, from the sizes of whole rows."""
        rows = sizes.reshape(len(sizes), -1) if sizes.dim() > 1 else sizes.reshape(1, -1)
        columns = rows.shape[1]
        if columns == 1:
            return torch.full_like(sizes, self.density)
        width, ranks = self._width(), torch.arange(columns, dtype=torch.float64)  # from 0
        chances = (self.density - width + 2 * width * ranks / (columns - 1)).to(rows.device)  # the same to the bit on every device
        return torch.empty_like(rows).scatter_(1, rows.argsort(dim=1, stable=True), chances.expand(rows.shape)).reshape(sizes.shape)

    def _width(self) -> float:
        """ε, or what of it fits between 0 and 1 around the density."""
        return min(self.epsilon, self.density, 1 - self.density)
