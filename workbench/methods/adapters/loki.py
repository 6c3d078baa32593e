"""LoKI: the rows of the MLPs' last matrices that general knowledge needs least. Not here: how rows are trained (`materials/region.py`), or
how it is found out what a row adds (`materials/attribution.py`).

LoKI: Low-damage Knowledge Implanting of Large Language Models, 2025. Tags as in the project's notes: [P] the paper's text, [R] read in its
published code (Nexround/LoKI), [REC] reconstruction, [O] our own choice.
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Parted
from workbench.materials.attribution import attributions
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.mlps import mlps, outputs_along
from workbench.materials.region import RegionAttachment, cost
from workbench.materials.regions import Columns, Region, Rows
from workbench.methods.contracts import Cost, Informed


class LoKI(Looking, Parted, Informed, title="LoKI (rows that knowledge needs least)"):
    """Look which rows of each MLP's last matrix matter least for general knowledge, and train those.

    $$a_j = z_j \\, \\frac{1}{M} \\sum_{k=1}^{M} \\frac{\\partial\\, p\\left(\\tfrac{k}{M} z\\right)}{\\partial z_j}, \\qquad
    S_\\ell = \\text{the } q\\,D \\text{ rows that are most often among the lowest } q\\,D$$

    z is what a block's MLP writes for the last token of a prompt, p the probability of the token that the model says next, and a_j what the
    j-th row of the last matrix adds to it. For each prompt the lowest of each block are noted; those noted most often move, as many in each
    block as in any other, because a choice over all blocks together falls on a few of them and does more harm [P].

    The rows to look at are questions of general knowledge, the authors' from MMLU [P]; name such a data set, in the form in which the model
    is asked. They go M = 7 steps for each block in turn [P]; here one backward pass at M = 1 serves all blocks unless you ask for more
    [REC]. They take the lowest value, which is that of rows that speak against the answer [R]; by size, those that say least either way are
    taken [REC]. Rows noted equally often go by their mean [O]. The paper's formula leaves out the factor z_j, which its code has [R]; its
    code also starts the scaling from the outputs for a text of padding, and this from nothing, as the paper does [R].
    """

    data: str = knob("known", help="name of the data set whose knowledge is to stay", names="data", label="general knowledge")
    share: float = knob(0.1, gt=0, le=1, step=0.05, help="q: share of the rows of each matrix that move; the paper takes 0.05 to 0.3")
    steps: int = knob(1, ge=1, le=100, help="M: points at which gradients are taken; above 1 each block takes passes of its own", more=True)
    lowest: Literal["size", "value"] = knob("size", help="which rows matter least: those of least size, or, as published, of least value")

    def looks_at(self) -> list[str]:
        if not self.data:
            raise WorkbenchError(
                f"{self.title()} keeps what a data set of general knowledge needs, and none is named. Write the name of one under general "
                "knowledge (adapter.data)."
            )
        return [self.data]

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The chosen rows by weight."""
        found, batches = dict[str, list[Tensor]](), evidence.prompts(self.data)
        names = [mlp.down for mlp in mlps(model)]
        for number, batch in enumerate(batches):
            yield Progress(number, len(batches), "prompts read")
            for name, own in attributions(model, names, batch, self.steps).items():
                found.setdefault(name, []).append(own.abs() if self.lowest == "size" else own)
        return {f"{name}.weight": self._least(torch.cat(own)) for name, own in found.items()}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> RegionAttachment:
        return RegionAttachment(model, {name: _outputs(model, name, index) for name, index in learnt.items()})

    def cost(self, model: PreTrainedModel) -> Cost:
        moved, rows = dict[str, int](), 0
        for mlp in mlps(model):
            name = f"{mlp.down}.weight"
            count = self._count(model.get_parameter(name).numel() // mlp.neurons)
            moved[name], rows = count * mlp.neurons, rows + count
        return replace(cost(model, moved), studied=8 * rows)

    def costs(self) -> str:
        return "" if self.steps == 1 else f"Before the first step the prompts are read {self.steps} times for each block, forth and back."

    def _count(self, rows: int) -> int:
        return max(1, int(self.share * rows))

    def _least(self, scores: Tensor) -> Tensor:
        """Of (N, D) scores the places that are most often among the lowest of their line; the lower mean first where that is equal."""
        count = self._count(scores.shape[1])
        lowest = torch.zeros_like(scores).scatter(1, scores.topk(count, largest=False).indices, 1.0)
        by_mean = scores.mean(0).argsort(stable=True)
        often = lowest.sum(0)[by_mean].argsort(descending=True, stable=True)
        return by_mean[often[:count]].sort().values


def _outputs(model: PreTrainedModel, name: str, index: Tensor) -> Region:
    """Those outputs of a matrix: rows, or columns of transformers' Conv1D."""
    return (Columns if outputs_along(model, name.removesuffix(".weight")) else Rows)(index)
