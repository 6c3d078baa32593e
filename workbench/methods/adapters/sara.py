"""SaRA: the weights that do least. Not here: how entries are trained (`materials/region.py`), or the paper's penalty on the change's rank.

SaRA: High-Efficient Diffusion Model Fine-tuning with Progressive Sparse Low-Rank Adaptation, 2024. arXiv:2409.06633. Tags as in the
project's notes: [P] abstract, [O] our own choice.
"""

import math

from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.targeted import Targeted
from workbench.materials import low_rank
from workbench.materials.region import Mask, RegionAttachment, cost
from workbench.materials.regions import Elements
from workbench.methods.contracts import Adapter, Cost


class SaRA(Targeted, Adapter, title="SaRA's choice (smallest weights)", paper="arXiv:2409.06633"):
    """Give a new use to the weights of a pretrained model that are nearly zero.

    $$M = \\{\\,(i, j) : |W_{ij}| \\text{ among the smallest } q \\text{ of its matrix}\\,\\}$$

    The 10 to 20 % smallest weights hardly matter to what a model says, and can be taught without touching those that do [P]. It is the
    opposite of LIFT's choice, and the two side by side show what a choice is worth.

    This is the paper's choice of weights alone. Its penalty on the nuclear norm of the change, and its second choice half-way, of those
    weights that have stayed small, are not here. A share of the entries is counted in each matrix apart [O].
    """

    share: float = knob(0.1, gt=0, le=0.5, step=0.01, help="share of each matrix's entries that move, the smallest ones")

    def attach(self, model: PreTrainedModel, seed: int) -> RegionAttachment:
        return RegionAttachment(model, self._mask(model))

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost(model, {f"{name}.weight": self._count(math.prod(shape)) for name, shape in low_rank.matrices(model, self.where)})

    def _count(self, size: int) -> int:
        return max(1, math.floor(self.share * size))

    def _mask(self, model: PreTrainedModel) -> Mask:
        found = {}
        for name, _ in low_rank.matrices(model, self.where):
            flat = model.get_parameter(f"{name}.weight").detach().abs().flatten()
            found[f"{name}.weight"] = Elements(flat.topk(self._count(len(flat)), largest=False).indices.sort().values)
        return found
