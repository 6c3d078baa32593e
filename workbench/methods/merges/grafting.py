"""Grafting: the few numbers that moved most, put into the base. Knows nothing of files; large tensors come a block of rows at a time.

Tags as in the project's notes: [R] read in the authors' code (abhishekpanigrahi1996/Skill-Localization-by-grafting); [P] in the paper's
abstract; [O] our own choice.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Merge, Slot


class Grafting(Merge, title="Grafting", paper="arXiv:2302.06600"):
    """Take over the few numbers of a tuned model that moved most and leave the base everywhere else, to see how few carry its skill.

    $$\\theta = \\theta_0 + \\gamma \\odot \\tau, \\qquad \\gamma = [\\, |\\tau| \\ge q \\,], \\qquad \\tau = \\theta_1 - \\theta_0$$

    Here q is the smallest size among the largest share s of the changes. The authors take a share of 1e-5 of the whole model as their start
    [R] and then learn which numbers to add and to take away; about 1e-4 of the numbers then do more than 95 % of what the tuned model does
    [P]. That learning needs data: it is the inspection Skill localisation, learnt. What it keeps is an adapter, a graft, that a merge takes
    as a tuned model: the Merge tab lists them, a recipe names the folder. Its numbers are chosen already, so with share 1 it goes into the
    base as it is, and with less only the largest of it. Task arithmetic with weights of 1 puts several into one base.

    Without such a graft a share of 1e-2 is where to begin [O]. The share is counted over all numbers, of the whole model or of each tensor,
    and at least one is taken; those of equal size are taken together [O], where the authors' code takes one number less than it counts [R].

    `smallest` takes the small changes and puts the large ones back to the base: with share 0.9 the largest tenth of the changes is
    undone, where share 0.9 alone undoes the smallest tenth. Numbers that did not move count among the smallest [O]. One model, which needs
    no weight; what is taken over is taken to the last bit.
    """

    most = 1

    share: float = knob(0.01, gt=0, le=1, log=True, help="share of the numbers that is taken from the tuned model")
    smallest: bool = knob(False, help="take the smallest changes instead, so that the largest go back to the base")
    of: Literal["model", "tensor"] = knob(
        "model", help="whether the share is of the whole model or of each tensor", label="share of", more=True
    )

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if any(weight != 1 for weight in weights):
            found.append(
                "Grafting takes numbers over as they are, so its model has no weight. Set the weight to 1, or choose another method."
            )
        return found

    def across(self) -> bool:
        return self.of == "model"

    def sizes(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        return [] if self.share == 1 else [(model - base).abs() for model in tuned]

    def ranks(self, counts: Sequence[tuple[int, int]]) -> list[list[int]]:
        taken = [max(1, int(self.share * count)) for count, _ in counts]
        return [[count - few if self.smallest else few] for few, (count, _) in zip(taken, counts, strict=True)]

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """`weights` are not used; a graft has none."""
        return torch.where(self._taken(slot, base, tuned, weights), tuned[0], base)

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`moved`, the share of all numbers that differ from the base; `taken`, the share of all that differ and are taken over;
        `relative`, ‖τ‖ over ‖θ₀‖ of the whole change."""
        gram = self.known(slot, base, tuned, weights).gram
        assert gram is not None
        moved = tuned[0] != base
        taken = moved & self._taken(slot, base, tuned, weights)
        norm, size = float(gram[1, 1].sqrt()), float(gram[0, 0].sqrt())
        return {
            "moved": float(moved.double().mean()),
            "taken": float(taken.double().mean()),
            "relative": norm / size if size else 0.0,
        }

    def _taken(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        cuts = self.known(slot, base, tuned, weights).cuts
        if not cuts:
            return torch.ones_like(base, dtype=torch.bool)
        moved, cut = (tuned[0] - base).abs(), cuts[0][0]
        return moved < cut if self.smallest else moved >= cut
