"""S²FT: some channels of the MLPs and some attention heads. Not here: how columns are trained (`materials/region.py`).

S²FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity, 2024. arXiv:2412.06289. Tags as in the project's
notes: [P] abstract, [R] read in the published code (experiments/train/finetune.py), [V] measured by us, [O] our own choice.
"""

import math
import random

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Parted
from workbench.materials.models import layer_of
from workbench.materials.region import Mask, RegionAttachment, cost
from workbench.materials.regions import Columns, Rows
from workbench.methods.contracts import Adapter, Cost

DOWN, OUT = ("down_proj", "mlp.c_proj", "fc2", "dense_4h_to_h"), ("o_proj", "attn.c_proj", "out_proj", "dense")
Drawn = dict[str, list[int]]


class S2FT(Parted, Adapter, title="S²FT (channels and heads)", paper="arXiv:2412.06289"):
    """Train what a few channels of the MLPs and a few attention heads write, and nothing else.

    $$W_{\\text{down}}[:, C], \\quad W_{\\text{out}}[:, H], \\qquad C, H \\text{ drawn once over the whole model}$$

    A channel of an MLP is a column of its down projection, and a head is a group of columns of the attention's output. As many as the
    shares say are drawn at random from all layers together, as in the published code [R], which takes 3 % of the channels and no head,
    with a learning rate of 1e-3. Few columns generalise better than LoRA or full tuning of the same cost, say the authors [P].

    The published code moves the chosen columns to the front of each matrix, which is the same model written otherwise, and goes wrong where
    heads share keys; here they stay where they are [V]. Their change is a block of columns, so two such adapters on columns of their own do
    not disturb one another. The paper's other ways to choose, by weight, activation or gradient, are not here.
    """

    channels: float = knob(0.03, ge=0, le=1, step=0.01, help="share of the MLPs' channels that move")
    heads: float = knob(0.0, ge=0, le=1, step=0.01, help="share of the attention heads that move")

    def attach(self, model: PreTrainedModel, seed: int) -> RegionAttachment:
        drawn = self._drawn(model, seed).items()
        mask: Mask = {name: (Rows if _turned(model, name) else Columns)(torch.tensor(columns)) for name, columns in drawn}
        return RegionAttachment(model, mask)

    def cost(self, model: PreTrainedModel) -> Cost:
        """In all what will move; which layers it falls on is drawn with the run's seed, and shown here for one draw."""
        drawn = self._drawn(model, 0)
        outs = {name: model.get_parameter(name).shape[1 if _turned(model, name) else 0] for name in drawn}
        return cost(model, {name: len(columns) * outs[name] for name, columns in drawn.items()})

    def _drawn(self, model: PreTrainedModel, seed: int) -> Drawn:
        """Columns by weight."""
        draw = random.Random(seed)
        head = model.config.hidden_size // model.config.num_attention_heads
        head = (model.config.head_dim if "head_dim" in model.config.to_dict() else None) or head
        found = {**_some(_named(model, DOWN), self.channels, 1, draw), **_some(_named(model, OUT), self.heads, head, draw)}
        if not found:
            raise WorkbenchError(
                f"S²FT moves nothing of this {type(model).__name__}: it has no MLP output or attention output by a name that is known "
                f"({', '.join((*DOWN, *OUT))}), or both shares are 0. Raise a share, or choose another adapter."
            )
        return found


def _named(model: PreTrainedModel, names: tuple[str, ...]) -> list[tuple[str, int]]:
    """(the weight's name, its columns) of the linear layers inside the blocks that are called so."""
    ends = tuple(f".{name}" for name in names)
    return [
        (f"{name}.weight", module.weight.shape[0 if isinstance(module, Conv1D) else 1])
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and layer_of(name + ".") is not None and name.endswith(ends)
    ]


def _turned(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight is stored the other way round, so that its columns are rows."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), Conv1D)


def _some(weights: list[tuple[str, int]], share: float, width: int, draw: random.Random) -> Drawn:
    """A share of all groups of `width` columns, one at least where there is a share; drawn from all weights together."""
    groups = [(name, start) for name, columns in weights for start in range(0, columns - width + 1, width)]
    count = min(len(groups), max(1, math.floor(share * len(groups)))) if share else 0
    found = dict[str, list[int]]()
    for name, start in sorted(draw.sample(groups, count)):
        found.setdefault(name, []).extend(range(start, start + width))
    return {name: sorted(columns) for name, columns in found.items()}
