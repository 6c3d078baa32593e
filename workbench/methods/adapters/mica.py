"""MiCA: a LoRA that writes only where the matrix writes least. Not here: the layers (`materials/low_rank.py`).

MiCA Learns More Knowledge Than LoRA and Full Fine-Tuning, 2026. Tags as in the project's notes: [P] abstract, [R] read in peft 0.21.2
(lora/layer.py, mica_init; lora/variants.py), [V] measured on a toy, [O] our own choice.
"""

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.low_rank import FIRST, LowRankAttachment
from workbench.methods.contracts import Cost, Informed


class MiCA(Ranked, Informed, title="MiCA (minor components)", paper="arXiv:2604.01694"):
    """Train only the half of a LoRA that reads, and let the other half write into directions that the matrix hardly uses.

    $$W = U \\Sigma V^\\top, \\qquad W' = W + \\frac{\\alpha}{r}\\, U_{k-r+1 \\dots k}\\, A, \\qquad A_0 = 0$$

    B holds the left singular vectors of the r smallest singular values and stands still [R]. Whatever A learns, the output changes only
    along them, and what the matrix writes strongly stays. The authors report up to 5.9 times more new knowledge than LoRA, each at its best
    settings, with 6 to 60 % of its numbers [P]. On a toy it forgot less than LoRA and less than a LoRA with A frozen, and learnt more
    slowly than both [V]. Trains r·n numbers a matrix.

    Saved is a plain LoRA, which peft opens without a decomposition of its own [O]; B keeps float32, where peft rounds it to the model's
    numbers [R].
    """

    held = 8  # B, which stands still, too
    stored = 8

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        low_rank.within(model, self)
        return (yield from low_rank.decomposed(model, self.where, self._minor))

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> LowRankAttachment:
        attachment = LowRankAttachment(low_rank.wrapped(model, self, seed))
        with torch.no_grad():
            for name, layer in low_rank.layers(model):
                layer.lora_A[FIRST].weight.zero_()
                layer.lora_B[FIRST].weight.copy_(learnt[f"{name}.B"])
        low_rank.freeze(model, "lora_B")
        return attachment

    def cost(self, model: PreTrainedModel) -> Cost:
        low_rank.within(model, self)
        found = low_rank.cost(model, self, lambda outs, ins: self.rank * ins)
        still = low_rank.cost(model, self, lambda outs, ins: self.rank * outs).trained  # B, which is held and saved too
        return replace(found, beside=still, saved=still + found.trained, studied=4 * still)

    def costs(self) -> str:
        return low_rank.DECOMPOSES

    def _minor(self, weight: Tensor) -> Learnt:
        return {"B": torch.linalg.svd(weight, full_matrices=False).U[:, -self.rank :]}
