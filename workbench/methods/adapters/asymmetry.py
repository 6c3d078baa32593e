"""LoRA of which only B learns: A is a fixed projection of the input. Not here: the layers (`materials/low_rank.py`).

Asymmetry in Low-Rank Adapters of Foundation Models, 2024. Tags as in the project's notes: [P] abstract, [R] read in the authors' code
(AsymmetryLoRA, local_lorasym_all.py), and [V] measured on a toy.
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.low_rank import FIRST, LowRankAttachment
from workbench.methods.contracts import Cost, Informed


class Asymmetry(Ranked, Informed, title="Asymmetry (LoRA with A frozen)", paper="arXiv:2402.16842"):
    """Train only the half of a LoRA that writes, and let the half that reads stand still.

    $$W' = W + \\frac{\\alpha}{r}\\, B A, \\qquad A A^\\top = I \\;\\text{ fixed}, \\quad B_0 = 0$$

    The two halves are not alike: A takes features out of the input, B makes the output of them. Training B is worth more than training A,
    and a random A that is never trained does nearly as well as one that is; with fewer numbers trained, a bound on how badly it may
    generalize is better too [P]. Trains r·m numbers a matrix, so at about twice the rank it costs what LoRA costs.

    The rows of A are orthonormal, at random [R]. They can be the directions that the matrix itself reads most, or least, strongly instead,
    as in the authors' code [R]. At the same rank it learns more slowly than LoRA and forgets less, on a toy [V].
    """

    held = 8  # A, which stands still, too
    stored = 8

    reads: Literal["random", "strongest", "weakest"] = knob(
        "random", help="what A reads: random directions, or those that the matrix reads most or least"
    )

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        low_rank.within(model, self)
        return {} if self.reads == "random" else (yield from low_rank.decomposed(model, self.where, self._directions))

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> LowRankAttachment:
        attachment = LowRankAttachment(low_rank.wrapped(model, self, seed))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, layer in low_rank.layers(model):
                own = layer.lora_A[FIRST].weight
                own.copy_(learnt[f"{name}.A"] if learnt else nn.init.orthogonal_(torch.empty(own.shape), generator=generator))
        low_rank.freeze(model, "lora_A")
        return attachment

    def cost(self, model: PreTrainedModel) -> Cost:
        low_rank.within(model, self)
        found = low_rank.cost(model, self, lambda outs, ins: self.rank * outs)
        still = low_rank.cost(model, self, lambda outs, ins: self.rank * ins).trained  # A, which is held and saved too
        return replace(found, beside=still, saved=still + found.trained, studied=0 if self.reads == "random" else 4 * still)

    def costs(self) -> str:
        return "" if self.reads == "random" else low_rank.DECOMPOSES

    def _directions(self, weight: Tensor) -> Learnt:
        vh = torch.linalg.svd(weight, full_matrices=False).Vh
        return {"A": vh[: self.rank] if self.reads == "strongest" else vh[-self.rank :]}
