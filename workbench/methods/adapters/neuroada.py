"""NeuroAda: a few entries of every row. Not here: how entries are trained (`materials/region.py`).

NeuroAda: Activating Each Neuron's Potential for Parameter-Efficient Fine-Tuning, 2025. arXiv:2510.18940. Tags as in the project's notes:
[P] abstract, [R] read in the published code (utils/utils.py, select_para.py), [V] measured by us, [O] our own choice.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.targeted import Targeted
from workbench.materials import low_rank
from workbench.materials.region import Mask, RegionAttachment, cost
from workbench.materials.regions import Elements
from workbench.methods.contracts import Adapter, Cost


class NeuroAda(Targeted, Adapter, title="NeuroAda (entries of every neuron)", paper="arXiv:2510.18940"):
    """Let every neuron change through its few largest inputs.

    $$M_{ij} = 1 \\;\\text{ where } |W_{ij}| \\text{ is among the } k \\text{ largest of row } i$$

    A neuron is a row of a matrix: what one output is made of. Each keeps its k largest weights free and the rest frozen, so that all of
    them can adapt with hardly any numbers: at k = 1 a model of 7 B trains 0.02 % [P]. No data is needed to choose, and the choice stays.

    The published code adds a sparse bypass to W in each forward pass [R], for which autograd keeps a whole copy of every matrix; here the
    same entries are trained without one [V]. The authors take k from 1 to 20 and learning rates from 7e-4 to 3e-3 [R].
    """

    entries: int = knob(4, ge=1, le=1024, help="how many weights of each row move", log=True, label="entries of a row")

    def attach(self, model: PreTrainedModel, seed: int) -> RegionAttachment:
        return RegionAttachment(model, self._mask(model))

    def cost(self, model: PreTrainedModel) -> Cost:
        found = low_rank.matrices(model, self.where)
        return cost(model, {f"{name}.weight": rows * min(self.entries, columns) for name, (rows, columns) in found})

    def _mask(self, model: PreTrainedModel) -> Mask:
        names = [f"{name}.weight" for name, _ in low_rank.matrices(model, self.where)]
        return {name: Elements(self._places(model.get_parameter(name).detach())) for name in names}

    def _places(self, weight: Tensor) -> Tensor:
        columns = weight.abs().topk(min(self.entries, weight.shape[1]), dim=1).indices
        rows = torch.arange(len(weight), device=weight.device)[:, None]
        return (rows * weight.shape[1] + columns).flatten().sort().values
