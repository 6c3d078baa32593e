"""SMT: the square blocks of the matrices on which the gradient pulls most. Not here: how blocks are trained (`materials/region.py`).

Sparse Matrix in Large Language Model Fine-tuning, 2024. arXiv:2405.15525. Tags as in the project's notes: [P] abstract, [R] read in the
published code (peft/tuner/smt.py), [O] our own choice.
"""

import math
from collections.abc import Generator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Targeted
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence, Learnt, gradients
from workbench.materials.region import RegionAttachment, cost, evenly
from workbench.materials.regions import Blocks
from workbench.methods.contracts import Cost, Informed


class SMT(Looking, Targeted, Informed, title="SMT (blocks with the largest gradient)", paper="arXiv:2405.15525"):
    """Look where the gradient of the first rows is largest, block by block, and train those blocks alone.

    $$s_{B} = \\Bigl| \\frac{1}{b^2} \\sum_{(i,j) \\in B} \\bar{G}_{ij} \\Bigr|, \\qquad \\bar{G} = \\text{mean gradient before training}$$

    Each matrix is cut into squares, and the best of all matrices together move [R]; `from_each` takes as many from each instead. LoRA stops
    getting better when it is given more parameters, and this does not, say the authors, who save two thirds of full tuning's memory [P].

    Their code takes squares of 256 and looks at 100 steps of training; a square must divide the matrices, so a smaller one is taken where
    256 does not [R]. Its score is the mean, in which what pulls in both directions cancels out; `size` takes the mean of |G|, which
    does not. The number of blocks is given as a share of the matrices' numbers [O]: their default for 7 B is 0.7 %.
    """

    share: float = knob(0.05, gt=0, le=1, help="share of the matrices' numbers that move", log=True)
    block: int = knob(
        256, ge=1, le=4096, help="rows and columns of a block; the largest number up to it that divides all matrices", log=True
    )
    score: Literal["mean", "size"] = knob("mean", help="of a block: the size of its mean gradient, or the mean of the sizes", more=True)
    from_each: bool = knob(False, help="as large a share of each matrix, instead of the best of all", more=True, label="from each matrix")

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The chosen blocks by weight, in the order in which `Blocks` counts them."""
        found = dict[str, Tensor]()
        names = [f"{name}.weight" for name, _ in low_rank.matrices(model, self.where)]
        side = self._side(model)

        def take(name: str, gradient: Tensor) -> None:
            own = gradient.float().abs() if self.score == "size" else gradient.float()
            means = own.unflatten(1, (-1, side)).unflatten(0, (-1, side)).mean((1, 3)).flatten()
            found[name] = found[name] + means if name in found else means

        yield from gradients(model, names, evidence.batches(), take)
        return self._best({name: found[name].abs() for name in names}, side)

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> RegionAttachment:
        return RegionAttachment(model, {name: Blocks(index, self._side(model)) for name, index in learnt.items()})

    def cost(self, model: PreTrainedModel) -> Cost:
        """In all what will move; which matrices it falls on is not known before it has looked, and shown as if all were alike."""
        sizes = {f"{name}.weight": math.prod(shape) for name, shape in low_rank.matrices(model, self.where)}
        area = self._side(model) ** 2
        counts = [self._count(size // area) for size in sizes.values()] if self.from_each else [self._count(sum(sizes.values()) // area)]
        return replace(cost(model, evenly(sum(counts) * area, sizes)), studied=8 * sum(counts))

    def _side(self, model: PreTrainedModel) -> int:
        """The largest number up to `block` that divides the sides of all matrices."""
        common = math.gcd(*(side for _, shape in low_rank.matrices(model, self.where) for side in shape))
        return max(side for side in range(1, min(self.block, common) + 1) if common % side == 0)

    def _count(self, blocks: int) -> int:
        return max(1, math.floor(self.share * blocks))

    def _best(self, scores: dict[str, Tensor], side: int) -> dict[str, Tensor]:
        if self.from_each:
            return {name: own.topk(self._count(len(own))).indices.sort().values for name, own in scores.items()}
        every = torch.cat(list(scores.values()))
        chosen = torch.zeros_like(every, dtype=torch.bool)
        chosen[every.topk(self._count(len(every))).indices] = True
        parts = zip(scores, chosen.split([len(own) for own in scores.values()]), strict=True)
        return {name: own.nonzero()[:, 0] for name, own in parts if own.any()}
