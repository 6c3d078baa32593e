"""LIFT: the entries of a weight that its strongest directions are made of. Not here: how entries are trained (`materials/region.py`).

LIFT the Veil for the Truth: Principal Weights Emerge after Rank Reduction for Reasoning-Focused Supervised Fine-Tuning, 2025.
arXiv:2506.00772. Tags as in the project's notes: [P] abstract, [R] read in the published code (src/sparseAdam.py, finetune_sft.py),
[O] our own choice.
"""

from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.targeted import Targeted
from workbench.materials import low_rank
from workbench.materials.attachment import in_turn
from workbench.materials.region import Mask, RegionAttachment, cost
from workbench.materials.regions import Elements
from workbench.methods.contracts import Adapter, Cost

POWER = 4  # rounds in which the randomized decomposition is sharpened


class LIFT(Targeted, Adapter, title="LIFT (principal weights)", paper="arXiv:2506.00772"):
    """Train only those entries of each matrix that are largest in its best low-rank approximation.

    $$M = \\text{top}_k \\; |W_r|, \\qquad W_r = U_{:r} \\Sigma_{:r} V_{:r}^\\top, \\qquad k = b\\,(m + n)$$

    The largest entries of W itself are a poor choice; those of W after its small directions are left out are a good one, for reasoning
    better than full tuning, with less forgetting [P]. The entries are chosen anew every so many steps, from the weights as they are then
    [R]; moments of an entry that stays chosen are kept [R]. Choosing needs no data. Norms, biases, embeddings and head stand still [R].

    A budget b trains as many numbers as LoRA of rank b, so at 16 they can be compared; the authors take 64 and 128 for models of 7 B [R].
    Where a matrix has fewer entries than that, all of it moves. The approximation costs a decomposition of each matrix at the start and at
    each choice; the randomized one is many times faster. A widely read note says that the entries come from W − W_r and stay the same; the
    code ranks |W_r| and chooses anew, and so does this.
    """

    budget: int = knob(16, ge=1, le=512, help="as many entries of a matrix move as LoRA of this rank would train", log=True)
    directions: int = knob(64, ge=1, le=512, help="strongest directions that the approximation keeps", log=True)
    refresh: int = knob(200, ge=0, le=100_000, help="steps between two choices of the entries; 0 chooses once", unit="steps")
    svd: Literal["randomized", "exact"] = knob("randomized", help="how the approximation is found", label="decomposition", more=True)

    def attach(self, model: PreTrainedModel, seed: int) -> RegionAttachment:
        return RegionAttachment(model, self._mask(model, seed), in_turn(self.refresh, lambda turn: self._mask(model, seed + turn)))

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost(model, {f"{name}.weight": self._count(*shape) for name, shape in low_rank.matrices(model, self.where)})

    def costs(self) -> str:
        return "" if self.svd == "randomized" else "An exact decomposition of each matrix is made at the start and at each choice."

    def _count(self, rows: int, columns: int) -> int:
        return min(self.budget * (rows + columns), rows * columns)

    @torch.no_grad()
    def _mask(self, model: PreTrainedModel, seed: int) -> Mask:
        mask = {}
        for name, shape in low_rank.matrices(model, self.where):
            weight = model.get_parameter(f"{name}.weight")
            approximation = self._approximation(weight.float(), seed)
            mask[f"{name}.weight"] = Elements(approximation.abs().flatten().topk(self._count(*shape)).indices.sort().values)
        return mask

    def _approximation(self, weight: Tensor, seed: int) -> Tensor:
        """W_r; the random state stays as it was."""
        rank = min(self.directions, *weight.shape)
        if self.svd == "exact" or 2 * rank >= min(weight.shape):
            u, s, vh = torch.linalg.svd(weight, full_matrices=False)
            return (u[:, :rank] * s[:rank]) @ vh[:rank]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            u, s, v = torch.svd_lowrank(weight, q=2 * rank, niter=POWER)
        return (u[:, :rank] * s[:rank]) @ v[:, :rank].T
