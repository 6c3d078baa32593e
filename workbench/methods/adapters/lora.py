"""LoRA, as peft builds it. Not here: its variants (rsLoRA, DoRA, initialisations), which are methods of their own."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.materials.models import layer_of, weights_by_module
from workbench.methods.contracts import Adapter, Attachment, Cost

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value", "dense")
MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h")


class LoRA(Adapter, title="LoRA", paper="arXiv:2106.09685"):
    """Learn a low-rank change beside each frozen weight matrix.

    $$W' = W + \\frac{\\alpha}{r}\\, B A, \\qquad A \\in \\mathbb{R}^{r \\times n},\\; B \\in \\mathbb{R}^{m \\times r}$$

    B starts at zero, so nothing changes at step 0; A starts as Kaiming-uniform. Trains r(m + n) numbers a matrix instead
    of mn. The paper adapts the attention's query and value matrices only and leaves rank and scale to the user; adapting
    all linear layers, with alpha = 2r, is what the field found since (it is the default here). Built by peft.
    """

    rank: int = knob(16, ge=1, le=256, help="how many directions each matrix may learn", log=True)
    alpha: float = knob(32.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / rank", log=True)
    dropout: float = knob(0.05, ge=0, lt=1, help="share of the adapter's inputs that is dropped while training", more=True)
    targets: Literal["all linear", "attention", "mlp"] = knob("all linear", help="which matrices get an adapter")

    def attach(self, model: PreTrainedModel, seed: int) -> "LoRAAttachment":
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=sorted({name.rpartition(".")[2] for name, _ in self._matrices(model)}),
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return LoRAAttachment(get_peft_model(model, config))

    def cost(self, model: PreTrainedModel) -> Cost:
        moved: dict[tuple[str, int], int] = {}
        for name, (rows, columns) in self._matrices(model):
            key = (name.rpartition(".")[2], layer_of(name + "."))
            moved[key] = moved.get(key, 0) + self.rank * (rows + columns)
        there: dict[tuple[str, int], int] = {}
        for _, module, layer, parameter in weights_by_module(model):
            there[module, layer] = there.get((module, layer), 0) + parameter.numel()
        by_module = [(module, layer, moved.get((module, layer), 0), count) for (module, layer), count in there.items()]
        return Cost(sum(moved.values()), sum(there.values()), by_module)

    def _matrices(self, model: PreTrainedModel) -> list[tuple[str, tuple[int, int]]]:
        """The adapted matrices by module name, with their shapes; the head and the embeddings are never adapted."""
        wanted = {"all linear": None, "attention": ATTENTION, "mlp": MLP}[self.targets]
        found = [
            (name, tuple(module.weight.shape))
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D)
            and layer_of(name + ".") is not None
            and (wanted is None or name.rpartition(".")[2] in wanted)
        ]
        if not found:
            raise WorkbenchError(
                f"LoRA finds no {self.targets} matrices in this {type(model).__name__}. Choose 'all linear' under targets, or full tuning."
            )
        return found


class LoRAAttachment(Attachment):
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
