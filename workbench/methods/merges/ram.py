"""RAM: what one model changed stays as it is, what several did is averaged. Knows nothing of files; large tensors come a block at a time.

Tags as in the project's notes: [R] read in mergekit 0.1.5, [O] our own choice. The paper itself was not read.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.deep import Deep
from workbench.core.method import knob
from workbench.methods.contracts import Merge, Slot


class RAM(Deep, Merge, title="RAM (reinforced agent merging)", paper="arXiv:2601.13572"):
    """Average what several models have changed, and keep undiluted what only one of them has.

    $$\\theta = \\theta_0 + \\frac{\\lambda}{|A|} \\sum_{i \\in A} f_i \\tau_i, \\qquad A = \\{ i : |\\tau_i| > \\epsilon \\}, \\qquad
    f_i = 1$$

    Made for models trained by reinforcement, whose changes are sparse and seldom in the same places: there a mean of M models would
    leave 1/M of each. A is another one for each number; where nobody has changed it, the base stays [R].

    RAM+TL, with `amplify`, makes up for the averaging: where one model stands alone, fᵢ = 1 + r·min(ρᵢ, α) with ρᵢ the number of the
    model's changes that are shared over that of those that are not, in this tensor [R].

    ε is an absolute size: at 1e-5 a change of a bfloat16 weight above about 0.002 counts whenever there is one, because the next number
    is further away [R]. What is smaller is dropped. All weights must be equal; the method has none [R].
    """

    kit = {"ram": {"amplify": False}, "ramplus_tl": {"amplify": True}}
    kit_knobs = {"epsilon": "epsilon", "r": "rate", "alpha": "limit"}

    epsilon: float = knob(1e-5, ge=0, le=1, help="ε: changes up to this size count as none")
    amplify: bool = knob(False, help="RAM+TL: make what stands alone larger, where much is shared")
    rate: float = knob(0.1, ge=0, le=10, step=0.05, help="r: how much larger for each unit of ρ", more=True)
    limit: float = knob(0.2, ge=0, le=10, step=0.05, help="α: the largest ρ that counts", more=True)

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if len(set(weights)) > 1:
            found.append("RAM gives every model the same share. Set all weights to 1, or choose TIES.")
        return found

    def totals(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """(2, M) how many of each model's changes are shared, and how many are not."""
        active = self._changes(base, tuned) != 0
        shared = active & (active.sum(0) > 1)
        return torch.stack([mask.reshape(len(tuned), -1).sum(1).double() for mask in (shared, active & ~shared)])

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        changes = self._changes(base, tuned)
        owners = (changes != 0).sum(0)
        factors = self._factors(slot, base, tuned, weights).to(base.device).reshape(-1, *[1] * base.dim())
        merged = torch.where(owners > 1, changes.sum(0) / owners.clamp(min=1), (changes * factors).sum(0))
        return base.double().add_(merged, alpha=self.scale_at(slot.depth)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `alone` and `shared`, the shares of the numbers that one model has changed and that several have; `factor`, the
        mean of fᵢ."""
        owners = (self._changes(base, tuned) != 0).sum(0)
        factor = self._factors(slot, base, tuned, weights).mean()
        alone, shared = (owners == 1).double().mean(), (owners > 1).double().mean()
        return {"scale": self.scale_at(slot.depth), "alone": float(alone), "shared": float(shared), "factor": float(factor)}

    def _changes(self, base: Tensor, tuned: Sequence[Tensor]) -> Tensor:
        """(M, …) float64 task vectors with what is too small set to 0."""
        changes = torch.stack([model.double() for model in tuned]).sub_(base.double())
        return torch.where(changes.abs() > self.epsilon, changes, 0.0)

    def _factors(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """(M,) fᵢ; where nothing stands alone it multiplies nothing."""
        if not self.amplify:
            return torch.ones(len(tuned), dtype=torch.float64)
        totals = self.known(slot, base, tuned, weights).totals
        assert totals is not None
        shared, alone = totals
        return 1 + self.rate * (shared / alone.clamp(min=1)).clamp(max=self.limit)
