"""Low-rank changes beside frozen matrices, as peft builds them: the counting and the attachment of the LoRA family.

What it is not: the knobs (`core/rank.py`), or a method: which matrix starts how, and what is frozen and kept apart, stands in
`methods/adapters/`.
"""

import copy
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.rank import Ranked
from workbench.materials.attachment import Attachment, Cost
from workbench.materials.models import ADAPTER, layer_of, weights_by_module
from workbench.materials.modules import named_so

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value", "dense")
MLP = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h")
FOUND = {"all linear": None, "attention": ATTENTION, "mlp": MLP}
FIRST = "default"  # peft's own name for an adapter
DECOMPOSES = "Decomposes each matrix at the start, which takes long for a model of billions of parameters."

Count = Callable[[int, int], int]
"""From a matrix's outputs m and inputs n to how many numbers move beside it."""


def wrapped(model: PreTrainedModel, knobs: Ranked, seed: int, **more: Any) -> PeftModel:
    """`model` with peft's layers in place; `more` goes to peft's `LoraConfig`. The random state stays as it was."""
    names = [name for name, _ in matrices(model, knobs.where)]
    settings = {
        "r": knobs.rank,
        "lora_alpha": knobs.alpha,
        "lora_dropout": knobs.dropout,
        "target_modules": sorted({name.rpartition(".")[2] for name in names} if knobs.where in FOUND else names),
        "fan_in_fan_out": isinstance(model.get_submodule(names[0]), Conv1D),
        "task_type": "CAUSAL_LM",
    }
    config = LoraConfig(**(settings | more))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def cost(model: PreTrainedModel, knobs: Ranked, each: Count | None = None) -> Cost:
    """What moves beside the matrices: of each what `each` says, r(m + n) numbers where nothing is said."""
    moved: dict[tuple[str, int], int] = {}
    for name, matrix in upright(model, knobs.where).items():
        (outs, ins), key = matrix.shape, (name.rpartition(".")[2], layer_of(name + "."))
        moved[key] = moved.get(key, 0) + (each(outs, ins) if each else knobs.rank * (outs + ins))
    there: dict[tuple[str, int], int] = {}
    for _, module, layer, parameter in weights_by_module(model):
        there[module, layer] = there.get((module, layer), 0) + parameter.numel()
    by_module = [(module, layer, moved.get((module, layer), 0), count) for (module, layer), count in there.items()]
    return Cost(sum(moved.values()), sum(there.values()), by_module)


def within(model: PreTrainedModel, knobs: Ranked) -> None:
    """Refuse what has no directions to start from: matrices that are quantised, and a rank that some matrix is too small for."""
    found = upright(model, knobs.where)
    quantised = [name for name, matrix in found.items() if not matrix.is_floating_point()]
    if quantised:
        raise WorkbenchError(
            f"{quantised[0]} is quantised, so its directions are not to be had. Choose the model as it was before, or a method that does "
            "not look at the weights, such as LoRA."
        )
    name, (rows, columns) = min(((name, matrix.shape) for name, matrix in found.items()), key=lambda one: min(one[1]))
    if knobs.rank > min(rows, columns):
        raise WorkbenchError(
            f"{name} is a matrix of {rows} × {columns} and has {min(rows, columns)} directions, fewer than the rank of {knobs.rank}. "
            f"Set rank to {min(rows, columns)} at most, or choose other targets."
        )


def decomposed(
    model: PreTrainedModel, where: str, find: Callable[[Tensor], Mapping[str, Tensor]]
) -> Generator[Progress, None, dict[str, Tensor]]:
    """What `find` makes of each matrix (m, n), float32, by its module's name and the name that `find` gives: `….up_proj.A`."""
    found, weights = dict[str, Tensor](), upright(model, where)
    for number, (name, weight) in enumerate(weights.items()):
        yield Progress(number, len(weights), "matrices decomposed")
        for key, tensor in find(weight.float()).items():
            found[f"{name}.{key}"] = tensor.clone()  # else all of U would be kept for a few of its columns
    return found


def layers(model: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """peft's layers by the names of the modules that they stand in for."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def upright(model: PreTrainedModel, where: str) -> dict[str, Tensor]:
    """The matrices that get an adapter by module name, each (m, n), as it maps n inputs to m outputs."""
    modules = {name: model.get_submodule(name) for name, _ in matrices(model, where)}
    return {name: upright_of(module, module.weight.detach()) for name, module in modules.items()}


def upright_of(module: nn.Module, tensor: Tensor) -> Tensor:
    """A matrix of the module, or its gradient, as (m, n); transformers' Conv1D is stored the other way round."""
    return tensor.T if isinstance(module, Conv1D) else tensor


def freeze(model: nn.Module, factor: str) -> None:
    """Let `factor`, lora_A or lora_B, stand still; peft would let it learn again whenever an adapter is switched back on."""
    for _, layer in layers(model):
        layer.frozen_peft_weight_names = {FIRST: (factor,)}
        layer.set_adapter(layer.active_adapters)


def write(folder: Path, config: LoraConfig, factors: Mapping[str, Tensor]) -> None:
    """A folder that peft loads, of factors by peft's names."""
    config = copy.deepcopy(config)
    config.inference_mode = True
    config.save_pretrained(folder)
    save_file({name: tensor.detach().contiguous() for name, tensor in factors.items()}, folder / ADAPTER[1], metadata={"format": "pt"})


class LowRankAttachment(Attachment):
    """peft's layers at work inside the model; the peft wrapper is kept for saving."""

    def __init__(self, wrapper: PeftModel):
        self.wrapper = wrapper
        self.model = wrapper.get_base_model()

    def base(self) -> AbstractContextManager[None]:
        return self.wrapper.disable_adapter()

    def save(self, folder: Path) -> None:
        self.wrapper.save_pretrained(folder, safe_serialization=True)

    def state(self) -> dict[str, Tensor]:
        return get_peft_model_state_dict(self.wrapper)

    def load_state(self, state: dict[str, Tensor]) -> None:
        set_peft_model_state_dict(self.wrapper, state)


def matrices(model: PreTrainedModel, where: str) -> list[tuple[str, tuple[int, int]]]:
    """The matrices that get an adapter by module name, with their shapes; the head and the embeddings are never among them.

    `where` is `all linear`, `attention` or `mlp`, or names with commas between them (`modules.named_so`).

    Raises:
        WorkbenchError: there are none.
    """
    every = [
        (name, tuple(module.weight.shape))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and layer_of(name + ".") is not None
    ]
    if where in FOUND:
        wanted = FOUND[where]
        found = [(name, shape) for name, shape in every if wanted is None or name.rpartition(".")[2] in wanted]
    else:
        named = named_so(model, [pattern.strip() for pattern in where.split(",") if pattern.strip()])
        found = [(name, shape) for name, shape in every if f"{name}.weight" in named]
    if not found:
        what = f"no {where} matrices" if where in FOUND else f"no matrices inside the blocks that are called {where}"
        raise WorkbenchError(f"There are {what} in this {type(model).__name__}. Choose 'all linear' under targets, or full tuning.")
    return found
