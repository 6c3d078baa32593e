"""Low-rank changes beside frozen matrices, as peft builds them: the counting and the attachment of the LoRA family.

What it is not: the knobs (`core/rank.py`), or a method: which matrix starts how, and what is frozen and kept apart, stands in
`methods/adapters/`.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.core.rank import Ranked
from workbench.materials.attachment import Attachment, Cost
from workbench.materials.models import layer_of, weights_by_module

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value", "dense")
MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h")
FOUND = {"all linear": None, "attention": ATTENTION, "mlp": MLP}


def wrapped(model: PreTrainedModel, knobs: Ranked, seed: int, **more: Any) -> PeftModel:
    """`model` with peft's layers in place; `more` goes to peft's `LoraConfig`. The random state stays as it was."""
    config = LoraConfig(
        r=knobs.rank,
        lora_alpha=knobs.alpha,
        lora_dropout=knobs.dropout,
        target_modules=sorted({name.rpartition(".")[2] for name, _ in matrices(model, knobs.targets)}),
        task_type="CAUSAL_LM",
        **more,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def cost(model: PreTrainedModel, knobs: Ranked) -> Cost:
    """r(m + n) numbers beside each matrix of m × n."""
    moved: dict[tuple[str, int], int] = {}
    for name, (rows, columns) in matrices(model, knobs.targets):
        key = (name.rpartition(".")[2], layer_of(name + "."))
        moved[key] = moved.get(key, 0) + knobs.rank * (rows + columns)
    there: dict[tuple[str, int], int] = {}
    for _, module, layer, parameter in weights_by_module(model):
        there[module, layer] = there.get((module, layer), 0) + parameter.numel()
    by_module = [(module, layer, moved.get((module, layer), 0), count) for (module, layer), count in there.items()]
    return Cost(sum(moved.values()), sum(there.values()), by_module)


class LowRankAttachment(Attachment):
    """peft's layers at work inside the model; the peft wrapper is kept for saving."""

    def __init__(self, wrapper: PeftModel):
        self.wrapper = wrapper
        self.model = wrapper.get_base_model()

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [parameter for _, parameter in self.trained()]}]

    def base(self) -> AbstractContextManager[None]:
        return self.wrapper.disable_adapter()

    def save(self, folder: Path) -> None:
        self.wrapper.save_pretrained(folder, safe_serialization=True)

    def state(self) -> dict[str, Tensor]:
        return get_peft_model_state_dict(self.wrapper)

    def load_state(self, state: dict[str, Tensor]) -> None:
        set_peft_model_state_dict(self.wrapper, state)


def matrices(model: PreTrainedModel, targets: str) -> list[tuple[str, tuple[int, int]]]:
    """The matrices that get an adapter by module name, with their shapes; the head and the embeddings are never among them."""
    wanted = FOUND[targets]
    found = [
        (name, tuple(module.weight.shape))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and layer_of(name + ".") is not None
        and (wanted is None or name.rpartition(".")[2] in wanted)
    ]
    if not found:
        raise WorkbenchError(
            f"There are no {targets} matrices in this {type(model).__name__}. Choose 'all linear' under targets, or full tuning."
        )
    return found
