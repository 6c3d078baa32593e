"""Changes of single entries on the disk: as peft's SHiRA adapter, which anybody loads, and as plain places and numbers.

What it is: `adapter_config.json` with `adapter_model.safetensors`, in which a matrix m × n has exactly r(m + n) entries [R] (what is
fewer is filled up with zeros; r is the same for all matrices), and what does not fit there, vectors and matrices that moved nearly whole,
stands as a module of its own; and `delta.safetensors` with `NAME.idx` (int32 where it fits) and `NAME.val` (float32) of each weight, which
add up. What it is not: training (`region.py`). Tags: [R] read in peft 0.21.2.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import ShiraConfig
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.materials.lora import PREFIX
from workbench.materials.models import ADAPTER
from workbench.materials.singles import DELTA

Deltas = Mapping[str, tuple[Tensor, Tensor]]
"""By the weight's name: (K,) ascending places in the flattened weight, and the (K,) float32 change there."""


def save_sparse(folder: Path, model: PreTrainedModel, deltas: Deltas, base: str = "") -> None:
    """Write both forms into an existing folder; `model` is the tuned one, from which whole modules are taken. `base`: what it stands on,
    where that is not what the model was loaded from."""
    held, (rank, entries) = dict(deltas), _layout(model, deltas)
    if not entries:  # peft would take matrices of its own choice: give it a small one that does not move
        rank, (still,) = 1, (entries := {_smallest(model)})
        held[still] = torch.empty(0, dtype=torch.int64), torch.empty(0)
    tensors, whole = dict[str, Tensor](), list[str]()
    for name, (places, change) in held.items():
        if name in entries:
            tensors |= _entries(f"{PREFIX}{name.rpartition('.')[0]}", places, change, model.get_parameter(name).shape, rank)
            continue
        for module in _holding(model, name):
            tensors |= {f"{PREFIX}{module}.{key}": value for key, value in model.get_submodule(module).state_dict().items()}
            whole.append(module)
    config = ShiraConfig(
        r=max(1, rank),
        target_modules=sorted(name.rpartition(".")[0] for name in entries),
        modules_to_save=list(dict.fromkeys(whole)) or None,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base or model.name_or_path,
        inference_mode=True,
    )
    config.save_pretrained(folder)
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
        folder / ADAPTER[1],
        metadata={"format": "pt"},
    )
    save_file(_plain(deltas), folder / DELTA, metadata={"format": "pt"})


def _layout(model: PreTrainedModel, deltas: Deltas) -> tuple[int, set[str]]:
    """(r, the weights that are kept as entries): the smallest r with room for all of them, those aside that have fewer than r(m + n)."""
    linear = [name for name in deltas if name.endswith(".weight") and isinstance(_module(model, name), nn.Linear)]
    shapes = {name: model.get_parameter(name).shape for name in linear}
    while shapes:
        rank = max(math.ceil(len(deltas[name][0]) / sum(shape)) for name, shape in shapes.items())
        fitting = {name: shape for name, shape in shapes.items() if rank * sum(shape) <= shape.numel()}
        if len(fitting) == len(shapes):
            return rank, set(shapes)
        shapes = fitting
    return 0, set()


def _smallest(model: PreTrainedModel) -> str:
    """The weight with fewest rows and columns among those that have room for r = 1."""
    linear = [(f"{name}.weight", module.weight.shape) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return min((sum(shape), name) for name, shape in linear if sum(shape) <= shape.numel())[1]


def _holding(model: PreTrainedModel, name: str) -> list[str]:
    """The modules that have this parameter: more than one where embeddings and head are tied."""
    wanted = model.get_parameter(name)
    return [module for module, own in model.named_modules() if any(one is wanted for one in own.parameters(recurse=False))]


def _module(model: PreTrainedModel, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _entries(stem: str, places: Tensor, change: Tensor, shape: torch.Size, rank: int) -> dict[str, Tensor]:
    """Filled up to r(m + n) with places that do not move."""
    room = rank * sum(shape) - len(places)
    free = torch.ones(shape.numel(), dtype=torch.bool, device=places.device)
    free[places] = False
    every, order = torch.cat([places, free.nonzero()[:room, 0]]).sort()
    values = torch.cat([change, torch.zeros(room, device=change.device)])[order]
    rows = torch.div(every, shape[1], rounding_mode="floor")
    return {f"{stem}.shira_weight": values, f"{stem}.shira_indices": torch.stack([rows, every - rows * shape[1]]).int()}


def _plain(deltas: Deltas) -> dict[str, Tensor]:
    found = dict[str, Tensor]()
    for name, (places, change) in deltas.items():
        small = not len(places) or int(places[-1]) < 2**31
        found |= {f"{name}.idx": places.int().cpu() if small else places.cpu(), f"{name}.val": change.float().cpu()}
    return found
