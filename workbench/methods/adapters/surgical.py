"""Surgical fine-tuning: the blocks that the rows speak to most. Not here: how tensors are trained (`materials/whole.py`).

On Surgical Fine-tuning for Language Encoders, EMNLP Findings 2023 (arXiv:2310.17041). Tags as in the project's notes: [P] abstract,
[REC] reconstruction, because the paper's own normalisation is not known to us, [O] our own choice.
"""

from collections.abc import Generator
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.evidence import Evidence, Learnt, gradients
from workbench.materials.models import layer_of
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Cost, Informed


class Surgical(Whole, Looking, Informed, title="Surgical fine-tuning (blocks by Fisher information)"):
    """Look which blocks the rows would move most, by the Fisher information, and train those blocks alone.

    $$F_\\ell = \\frac{1}{N \\, |\\theta_\\ell|} \\sum_{x} \\sum_{i \\in \\ell}
    \\left(\\frac{\\partial \\log p(x)}{\\partial \\theta_i}\\right)^2$$

    What a task needs sits in a few blocks, and training these is as good as training all, often better; the diagonal of the Fisher
    information finds them before training, and their order hardly changes while a model learns [P]. That was shown for encoders on GLUE and
    SuperGLUE [P]; with decoders it is untested by the paper.

    Each row is read alone, because squares of a batch's mean gradient would cancel what rows disagree on. log p is the mean over a row's
    learnt tokens, so that a long answer weighs no more than a short one [O]. Per number or summed over the block [REC]: where all blocks
    have the same shape, the choice is the same. Embeddings, head and the last norm stand still. How many blocks is for you to try: one to
    five is usual, from about a hundred rows [O].
    """

    rows: int = knob(100, ge=1, le=100_000, help="rows that are looked at before the first step, drawn at random", log=True, more=True)
    blocks: int = knob(2, ge=1, le=1000, help="how many blocks move", unit="blocks")
    score: Literal["mean", "sum"] = knob("mean", help="Fisher information of a block per number, or of all its numbers together", more=True)

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """`fisher`: (L,) float64, of each block the mean over rows of the sum of squares."""
        found = torch.zeros(model.config.num_hidden_layers, dtype=torch.float64, device=evidence.device)
        blocks, rows = {name: layer for name, layer, _ in _inside(model)}, evidence.batches(size=1)

        def take(name: str, gradient: Tensor) -> None:
            found[blocks[name]] += gradient.double().square().sum() / len(rows)

        yield from gradients(model, blocks, rows, take)
        return {"fisher": found}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> WholeAttachment:
        scores = learnt["fisher"].cpu()
        if self.score == "mean":
            scores = scores / torch.tensor(_sizes(model))
        return WholeAttachment(model, _of(model, set(scores.topk(min(self.blocks, len(scores))).indices.tolist())))

    def cost(self, model: PreTrainedModel) -> Cost:
        """As if the largest blocks were chosen; mostly all are alike."""
        sizes = _sizes(model)
        return cost_of(model, _of(model, set(sorted(range(len(sizes)), key=lambda layer: -sizes[layer])[: self.blocks])))

    def costs(self) -> str:
        return "Each row that is looked at takes a forward and a backward pass of the whole model, one by one, before the first step."


def _inside(model: PreTrainedModel) -> list[tuple[str, int, int]]:
    """The parameters inside the blocks: name, block, size."""
    every = [(name, layer_of(name), parameter.numel()) for name, parameter in model.named_parameters()]
    return [(name, layer, size) for name, layer, size in every if layer is not None]


def _of(model: PreTrainedModel, layers: set[int]) -> set[str]:
    return {name for name, layer, _ in _inside(model) if layer in layers}


def _sizes(model: PreTrainedModel) -> list[int]:
    """Numbers in each block."""
    sizes = [0] * model.config.num_hidden_layers
    for _, layer, size in _inside(model):
        sizes[layer] += size
    return sizes
