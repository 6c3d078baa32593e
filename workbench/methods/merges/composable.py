"""Composable sparse fine-tuning: the largest changes of several models, added. Knows nothing of files; tensors come in blocks of rows.

Tags as in the project's notes: [R] read in the authors' code (cambridgeltl/composable-sft); [P] in the paper's abstract; [O] our own
choice.
"""

from collections.abc import Sequence

from torch import Tensor

from workbench.core.deep import Deep
from workbench.core.method import knob
from workbench.materials.votes import trimmed, weighted
from workbench.methods.contracts import Merge, Slot


class Composable(Deep, Merge, title="Composable sparse (LT-SFT)", paper="arXiv:2110.07560"):
    """Add to the base, for each model, only the few changes that are the largest in the whole model, so that they seldom meet.

    $$\\theta = \\theta_0 + \\lambda \\sum_i w_i \\varphi_i, \\qquad \\varphi_i = \\tau_i \\odot \\big[\\, |\\tau_i| \\ge q_i \\,\\big]$$

    Here q is the smallest size among the largest share s of the model's changes. Meant for parts that add up, such as a language and a task
    [P]. There is no vote and no mean: at a number that only one model keeps, that model's change stands untouched. TIES with `trim: model`
    keeps the same numbers and lets them vote.

    The authors find the numbers by a first training, go back to the base, and train those numbers alone a second time; their φ is what
    that leaves [R]. Here φ is cut out of a model as it is. A model that was trained so has no other changes, and comes through whole if
    the share is at least its own [O]. They use a share of 0.01 unless told otherwise, add φ with weight 1, may leave out embeddings, norms
    and heads, and put a task's own head in place of the base's [R]; here every tensor is treated alike [O]. As in their code, changes as
    large as the smallest that is kept are kept too [R].
    """

    share: float = knob(0.01, gt=0, le=1, log=True, help="share of each model's numbers whose change is kept, the largest of the model")

    def across(self) -> bool:
        return True

    def sizes(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        return [] if self.share == 1 else [(model - base).abs() for model in tuned]

    def ranks(self, counts: Sequence[tuple[int, int]]) -> list[list[int]]:
        return [[max(1, int(self.share * count))] for count, _ in counts]

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        merged = self._kept(slot, base, tuned, weights).sum(0)
        return base.double().add_(merged, alpha=self.scale_at(slot.depth)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `kept`, the share of all numbers at which at least one model's change is kept; `shared`, at which more than one is."""
        models = (self._kept(slot, base, tuned, weights) != 0).sum(0)
        return {
            "scale": self.scale_at(slot.depth),
            "kept": float((models > 0).double().mean()),
            "shared": float((models > 1).double().mean()),
        }

    def _kept(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """(M, …) float64: the weighted φ."""
        return weighted(trimmed(base, tuned, self.known(slot, base, tuned, weights).cuts), weights)
