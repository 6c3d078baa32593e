"""Consensus merging: only the numbers that several models need. Knows nothing of files; large tensors come a block of rows at a time.

Tags as in the project's notes: [R] read in the authors' code (nik-dim/tall_masks); [P] in the paper's abstract; [O] our own choice.
"""

from collections.abc import Sequence

from torch import Tensor

from workbench.core.deep import Deep
from workbench.core.method import knob
from workbench.materials.votes import changes, weighted
from workbench.methods.contracts import Merge, Slot


class Consensus(Deep, Merge, title="Consensus (TALL masks)", paper="arXiv:2405.07813"):
    """Add up the task vectors, but only at numbers that at least two models need; elsewhere the base stays.

    $$\\tau = \\sum_i w_i \\tau_i, \\qquad m_i = \\big[\\, |w_i \\tau_i| > \\lambda_t \\, |\\tau - w_i \\tau_i| \\,\\big], \\qquad
    \\theta = \\theta_0 + \\lambda \\, \\big[ \\textstyle\\sum_i m_i \\ge k \\big] \\odot \\tau$$

    A model needs a number if its own change is large against what the others add to it. What only one model needs is called selfish, what
    none needs catastrophic; both are left out, because they do the sum more harm than good [P]. k = 1 leaves out only the second [R].

    The authors choose λ_t for each task from 0.2, 0.3 … 0.6 on validation data, and λ from 0.1 to 1 [R]; here λ_t is one number for all of
    them [O]. They have no weights: equal ones give their masks, whatever their size, and with others the masks go by what is really added
    [O]. They put it on TIES too [R]; that is not done here. Needs two models; of two, a number stays if neither change is 1/λ_t times the
    other or more, whichever way they point.
    """

    least = 2

    threshold: float = knob(0.4, ge=0, le=2, step=0.05, help="λₜ: how large a model's change must be against what the others add")
    needed: int = knob(2, ge=1, le=100, help="k: how many models must need a number for it to be merged", label="needed by", more=True)

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if self.least <= len(weights) < self.needed:
            found.append(
                f"No number can be needed by {self.needed} models, because the spec names {len(weights)}, so the base would be all that "
                f"is left. Set `needed` to {len(weights)} or less."
            )
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        merged, needing = self._needed(base, tuned, weights)
        return base.double().add_(merged * (needing >= self.needed), alpha=self.scale_at(slot.depth)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `kept`, the share of all numbers that are merged; `selfish`, the share that some model needs, but too few do."""
        _, needing = self._needed(base, tuned, weights)
        kept, wanted = needing >= self.needed, needing > 0
        return {
            "scale": self.scale_at(slot.depth),
            "kept": float(kept.double().mean()),
            "selfish": float((wanted & ~kept).double().mean()),
        }

    def _needed(self, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
        """(…) the weighted sum of the task vectors, and how many models need each number."""
        stack = weighted(changes(base, tuned), weights)
        merged = stack.sum(0)
        return merged, (stack.abs() > self.threshold * (merged - stack).abs()).sum(0)
