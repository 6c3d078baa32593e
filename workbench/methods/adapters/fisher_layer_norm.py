"""Fisher LayerNorm: single numbers of the norms, those that the rows speak to most. Not here: which modules norms are
(`materials/norms.py`), or how a part of a vector is trained (`materials/region.py`).

LayerNorm: A key component in parameter-efficient fine-tuning, 2024. Tags as in the project's notes: [P] abstract, [REC] reconstruction,
because the paper's own normalisation and share are not known to us, [O] our own choice.
"""

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Turned
from workbench.materials.evidence import Evidence, Learnt, gradients
from workbench.materials.models import layer_of
from workbench.materials.norms import norms
from workbench.materials.region import RegionAttachment, cost, evenly
from workbench.materials.regions import Elements
from workbench.methods.contracts import Cost, Informed


class FisherLayerNorm(Turned, Looking, Informed, title="Fisher LayerNorm (the norms' numbers that matter)", paper="arXiv:2403.20284"):
    """Look which numbers of the norms the rows would move most, by the Fisher information, and train those alone.

    $$F_i = \\frac{1}{N} \\sum_{x} \\left(\\frac{\\partial \\log p(x)}{\\partial g_i}\\right)^2, \\qquad S = \\text{top}_k \\; F, \\qquad
    k = q \\, |g|$$

    Of all parts of a BERT the norms change most in fine-tuning, and training them alone is as good as training everything on many tasks of
    GLUE; a small portion of their numbers, found by the Fisher information, still solves many of these tasks with hardly a loss [P]. That
    is a few thousand numbers for a model of billions. With decoders it is untested by the paper.

    g are the gains and shifts of the norms in the blocks; the last norm, before the head, stands still [O]. All are compared with one
    another, so a norm may move nearly whole and another not at all [REC]. Each row is read alone, because squares of a batch's mean
    gradient would cancel what rows disagree on, and log p is the mean over a row's learnt tokens, as in surgical fine-tuning [O]. Numbers
    move in float32 whatever the model is. Saved are the norms that hold them, whole, for peft, and the changes alone beside them.
    """

    held = 28  # its value, two places of 8 bytes, and what it was and is in the norm
    over_rounded = True

    rows: int = knob(100, ge=1, le=100_000, help="rows that are looked at before the first step, drawn at random", log=True, more=True)
    share: float = knob(0.2, gt=0, le=1, step=0.05, help="q: share of the norms' numbers that move; 1 is LayerNorm tuning")

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The places that move by the name of the gain or shift."""
        sizes, rows = self._sizes(model), evidence.batches(size=1)
        fisher = {name: torch.zeros(size, dtype=torch.float64, device=evidence.device) for name, size in sizes.items()}

        def take(name: str, gradient: Tensor) -> None:
            fisher[name] += gradient.double().square()

        yield from gradients(model, sizes, rows, take)
        ranked = torch.cat(list(fisher.values())).argsort(descending=True, stable=True)
        moves = torch.zeros(len(ranked), dtype=torch.bool, device=evidence.device)
        moves[ranked[: self._count(sizes)]] = True
        parts = zip(sizes, moves.split(list(sizes.values())), strict=True)
        return {name: own.nonzero()[:, 0] for name, own in parts if own.any()}

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> RegionAttachment:
        return RegionAttachment(model, {name: Elements(places) for name, places in learnt.items()})

    def cost(self, model: PreTrainedModel) -> Cost:
        """As if the numbers were spread evenly; saved are all norms at most, and place and change of each number."""
        sizes = self._sizes(model)
        count = self._count(sizes)
        return replace(cost(model, evenly(count, sizes)), saved=sum(sizes.values()) + 2 * count, studied=8 * count)

    def costs(self) -> str:
        return "Each row that is looked at takes a forward and a backward pass of the whole model, one by one, before the first step."

    def _count(self, sizes: dict[str, int]) -> int:
        return max(1, int(self.share * sum(sizes.values())))

    def _sizes(self, model: PreTrainedModel) -> dict[str, int]:
        """How many numbers each gain and shift inside the blocks has, by its name."""
        inside = {name: norm for name, norm in norms(model).items() if layer_of(name + ".") is not None}
        found = {f"{name}.{key}": vector.numel() for name, norm in inside.items() for key, vector in norm.named_parameters()}
        if not found:
            raise WorkbenchError(f"The norms of this {type(model).__name__} have no numbers of their own to train. Choose another adapter.")
        return found
