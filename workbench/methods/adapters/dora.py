"""DoRA: the direction and the length of each row of a matrix, learnt apart. Not here: the layers, which are peft's.

DoRA: Weight-Decomposed Low-Rank Adaptation, 2024. Tags as in the project's notes: [P] the paper, [R] read in peft 0.21.2 (lora/dora.py,
lora/variants.py), [V] measured by us, [O] our own choice.
"""

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.low_rank import FIRST, LowRankAttachment
from workbench.methods.contracts import Adapter, Cost


class DoRA(Ranked, Adapter, title="DoRA (direction and length apart)", paper="arXiv:2402.09353"):
    """Learn where each row of a matrix points with a LoRA, and how long it is with a number of its own.

    $$W' = m \\odot \\frac{W + s B A}{\\lVert W + s B A \\rVert}, \\qquad m_0 = \\lVert W \\rVert, \\quad s = \\frac{\\alpha}{r}$$

    The norm is that of each row, which is what one output reads. Full tuning changes length and direction in other proportions than LoRA
    does; learnt apart, they come closer to it, most of all at low ranks [P]. The norm below the line is taken as a constant in the
    gradient, which saves memory at little cost in quality [P][R]. Trains r(m + n) + m numbers a matrix.

    To know the norms, each pass builds B A and the sum whole, one matrix at a time [R]: a step is slower than LoRA's. With dropout each W
    would be multiplied a second time [R], so dropout is 0 here unless you set it [O]. The lengths are measured in float32: where the model
    lies in bfloat16, peft rounds them, and what the model says would change before the first step [V].
    """

    dropout: float = knob(0.0, ge=0, lt=1, help="share of the adapter's inputs that is dropped while training; slows each step", more=True)

    def attach(self, model: PreTrainedModel, seed: int) -> LowRankAttachment:
        wrapper = low_rank.wrapped(model, self, seed, use_dora=True)
        _measure(wrapper)
        return LowRankAttachment(wrapper)

    def cost(self, model: PreTrainedModel) -> Cost:
        return low_rank.cost(model, self, lambda outs, ins: self.rank * (outs + ins) + outs)

    def costs(self) -> str:
        return "Builds every adapted matrix whole at each pass, one at a time, so a step takes longer than LoRA's."


@torch.no_grad()
def _measure(wrapper: PeftModel) -> None:
    """Each row's length, as the forward pass will measure it."""
    for name, layer in low_rank.layers(wrapper.get_base_model()):
        base = layer.get_base_layer()
        lengths = torch.linalg.norm(low_rank.upright_of(base, base.weight).float(), dim=1)
        if not lengths.all():
            raise WorkbenchError(
                f"{name} has rows that are all zeros, and DoRA divides by the length of each. Choose LoRA, or targets without this matrix."
            )
        layer.lora_magnitude_vector[FIRST].weight.data = lengths
