"""Matrices that stand still and read inputs turned in planes: the attachment of adapters that learn one angle for each two inputs.

    y = W z',   z'_{2i} = cos θ_i z_{2i} + sin θ_i z_{2i+1},   z'_{2i+1} = cos θ_i z_{2i+1} − sin θ_i z_{2i}

At θ = 0 nothing changes, to the bit. What it is not: which matrices, which is a method's (`methods/adapters/tarot.py`), or a rotation in
any subspace (`rotation.py`). No weight is read or written to. It is saved as peft's OFT with blocks of two, whose one number for each is
tan(θ/2) [D]; peft has no OFT for transformers' Conv1D [R], so there as a LoRA, which needs the rank of all inputs. Tags: [R] read in peft
0.21.2, [D] derived.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, OFTConfig
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.materials.attachment import Attachment, resting
from workbench.materials.lora import PREFIX
from workbench.materials.low_rank import write
from workbench.materials.models import ADAPTER
from workbench.materials.rotation import weight_of

CHILD = "planes"  # by this name they hang under their matrix, where probes find what is trained among the model's own parameters


class Planes(nn.Module):
    """Turns each two of `size` inputs by an angle in radians."""

    def __init__(self, size: int, device: torch.device):
        super().__init__()
        self.angles = nn.Parameter(torch.zeros(size // 2, device=device))
        self.still = False

    def forward(self, inputs: Tensor) -> Tensor:
        if self.still:
            return inputs
        first, second = inputs.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = self.angles.cos().to(inputs.dtype), self.angles.sin().to(inputs.dtype)
        return torch.stack([cos * first + sin * second, cos * second - sin * first], -1).flatten(-2)


class PlanesAttachment(Attachment):
    """Turned inputs of the matrices that `sizes` names, each with how many it reads; no angle goes beyond `limit` radians."""

    def __init__(self, model: PreTrainedModel, sizes: Mapping[str, int], limit: float = math.inf):
        self.model, self.limit = model, limit
        model.requires_grad_(False)
        self._planes = {name: Planes(size, model.device) for name, size in sizes.items()}
        for name, planes in self._planes.items():
            matrix = model.get_submodule(name)
            matrix.add_module(CHILD, planes)
            matrix.register_forward_pre_hook(_turned)

    def base(self) -> AbstractContextManager[None]:
        return resting(self._planes.values())

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        for planes in self._planes.values():
            planes.angles.clamp_(-self.limit, self.limit)

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        told = {"target_modules": sorted(self._planes), "base_model_name_or_path": self.model.name_or_path, "task_type": "CAUSAL_LM"}
        if not any(isinstance(self.model.get_submodule(name), Conv1D) for name in self._planes):
            OFTConfig(oft_block_size=2, use_cayley_neumann=False, inference_mode=True, **told).save_pretrained(folder)
            halves = {f"{PREFIX}{name}.oft_R.weight": (own.angles / 2).tan()[:, None] for name, own in self._planes.items()}
            save_file({name: own.contiguous().cpu() for name, own in halves.items()}, folder / ADAPTER[1], metadata={"format": "pt"})
            return
        factors, sizes = dict[str, Tensor](), {name: 2 * len(own.angles) for name, own in self._planes.items()}
        for name, planes in self._planes.items():
            same = torch.eye(sizes[name], device=planes.angles.device)
            factors[f"{PREFIX}{name}.lora_A.weight"] = (planes(same) - same).T  # W z' is W times this, and W z
            factors[f"{PREFIX}{name}.lora_B.weight"] = weight_of(self.model.get_submodule(name)).float()
        config = LoraConfig(r=max(sizes.values()), lora_alpha=1, rank_pattern=sizes, alpha_pattern=sizes, fan_in_fan_out=True, **told)
        write(folder, config, factors)

    def state(self) -> dict[str, Tensor]:
        return {name: planes.angles.detach() for name, planes in self._planes.items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, planes in self._planes.items():
            planes.angles.copy_(state[name])


def _turned(matrix: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return matrix.get_submodule(CHILD)(inputs[0]), *inputs[1:]
