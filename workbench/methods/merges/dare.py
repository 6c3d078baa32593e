"""DARE: drop changes at random and rescale the rest. Knows nothing of files; large tensors come to it a block of rows at a time.

Tags as in the project's notes: [R] read in the authors' code (yule-BUAA/MergeLM) or, where it says so, in mergekit 0.1.5; [O] our own
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


class DARE(Deep, Merge, title="DARE", paper="arXiv:2311.03099"):
    """Drop some of each model's changes at random and make up for them with those that are left, so that the models get in each
    other's way less.

    $$\\hat\\tau_i = \\frac{m_i \\odot \\tau_i}{d}, \\qquad m_i \\sim \\mathrm{Bernoulli}(d), \\qquad
    \\theta = \\theta_0 + \\lambda \\sum_i w_i \\hat\\tau_i$$

    Each model draws for itself, and with 1/d each change keeps its expected size. `rescale: L1` gives each tensor its Σ|τ| back
    instead, which is what mergekit does [R]: a draw that kept 85 of 1000 numbers at d = 0.1 gave a factor of 10.79 there and not 10.

    `combine: ties` lets the changes that are left vote and takes the weighted mean of those who agree, as TIES does. The authors trim
    the smallest as well and take the mean; mergekit does not trim, and adds [R]. Here nothing is trimmed and the mean is taken [O]: it
    is a mean over those who are left, so the lower the density, the smaller λ has to be.

    A draw belongs to a number's place in its tensor and to the model's place in the list, so the same seed gives the same model in any
    blocks, and models in another order give another [O]. With density 1 nothing is dropped. The authors' examples drop 0.9 of one
    model's changes, and 0.2 where they merge large models [R].
    """

    kit = {"dare_linear": {"combine": "sum"}}  # its dare_ties adds up those who agree, where the authors and we take their mean
    kit_defaults = {"density": 1.0, "rescale": "L1"}
    kit_knobs = {"density": "density", "lambda": "scale", "rescale": ("rescale", {True: "L1", False: "none"})}

    ordered = True

    density: float = knob(0.8, gt=0, le=1, step=0.05, help="share of each model's changes that is kept, drawn at random")
    combine: Literal["sum", "ties"] = knob("sum", help="add what is left, or let it vote as in TIES")
    rescale: Literal["1/density", "L1", "none"] = knob("1/density", help="how what is left makes up for what was dropped", more=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes which changes are dropped", more=True)

    def totals(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor | None:
        if self.rescale != "L1":
            return None
        stack = changes(base, tuned)
        return lengths(stack, stack * self._kept(slot, stack))

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        stack = self._left(slot, base, tuned, weights)
        merged = combined(stack, elected(stack), weights, "mean") if self.combine == "ties" else stack.sum(0)
        return base.double().add_(merged, alpha=self.scale_at(slot.depth)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `factor` that rescales what is left, the mean over the models; `kept`, the share of all numbers at which at least one
        model's change is left; `agree`, the share of all numbers at which nothing that is left goes against the vote."""
        stack = self._left(slot, base, tuned, weights)
        factor = float(self._factors(slot, base, tuned, weights).mean())
        return {"scale": self.scale_at(slot.depth), "factor": factor, **told(stack, elected(stack))}

    def _left(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """(M, …) float64: the weighted changes that are left, rescaled."""
        stack = changes(base, tuned)
        stack = stack * self._kept(slot, stack)
        return weighted(weighted(stack, self._factors(slot, base, tuned, weights)), weights)

    def _factors(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """(M,) what each model's changes are multiplied with."""
        if self.rescale == "L1":
            found = self.known(slot, base, tuned, weights).totals
            assert found is not None
            return restoring(found)
        return torch.full((len(tuned),), 1 / self.density if self.rescale == "1/density" else 1.0, dtype=torch.float64)

    def _kept(self, slot: Slot, stack: Tensor) -> Tensor:
        """(M, …) which changes are left."""
        count, *shape = stack.shape
        first = slot.first * math.prod(shape[1:])
        kept = torch.stack([uniform(self.seed, f"{slot.name}:{index}", first, shape) < self.density for index in range(count)])
        return kept.to(stack.device)
