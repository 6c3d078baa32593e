"""Matrices that stand still and read a turned input: the attachment of adapters that learn a rotation inside a subspace.

    y = W(x + P(R − I)Pᵀx),   R = (I + Q)⁻¹(I − Q),   Q = −Qᵀ

P, (n, r), has orthonormal columns and stays; R is orthogonal, and the r(r − 1)/2 numbers of Q are all that moves. What it is not: the
choice of P, which is a method's (`methods/adapters/loft.py`). The weight is never copied or written to. R − I is computed as
−2(I + Q)⁻¹Q [D], which is exactly 0 at Q = 0, so nothing that is said changes before the first step. As a change of the weight it has rank
r, W P(R − I) times Pᵀ, so that it is saved as a LoRA without loss.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.materials.attachment import Attachment, resting
from workbench.materials.lora import PREFIX
from workbench.materials.low_rank import upright_of, write

CHILD = "rotation"  # by this name it hangs under its matrix, where probes find what is trained among the model's own parameters


class Rotation(nn.Module):
    """Turns what of its input lies in `directions`, (n, r), and lets the rest pass."""

    def __init__(self, directions: Tensor):
        super().__init__()
        rank = directions.shape[1]
        self.register_buffer("directions", directions.contiguous())
        self.turn = nn.Parameter(torch.zeros(rank * (rank - 1) // 2, device=directions.device))
        self.still = False

    def forward(self, inputs: Tensor) -> Tensor:
        if self.still:
            return inputs
        directions = self.directions.to(inputs.dtype)
        return inputs + inputs @ directions @ self.change().T.to(inputs.dtype) @ directions.T

    def change(self) -> Tensor:
        """R − I, (r, r). I + Q has an inverse whatever Q is, so the check for one, which waits for a GPU, is left out."""
        rank = self.directions.shape[1]
        above = torch.triu_indices(rank, rank, 1, device=self.turn.device)
        upper = self.turn.new_zeros(rank, rank).index_put((above[0], above[1]), self.turn)
        skew = upper - upper.T
        return -2 * torch.linalg.solve_ex(torch.eye(rank, device=skew.device) + skew, skew)[0]


class RotationAttachment(Attachment):
    """A rotation before each matrix that `directions` names."""

    def __init__(self, model: PreTrainedModel, directions: Mapping[str, Tensor]):
        self.model = model
        model.requires_grad_(False)
        self._rotations = {name: Rotation(own) for name, own in directions.items()}
        for name, rotation in self._rotations.items():
            matrix = model.get_submodule(name)
            matrix.add_module(CHILD, rotation)
            matrix.register_forward_pre_hook(_turned)

    def base(self) -> AbstractContextManager[None]:
        return resting(self._rotations.values())

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        factors, ranks = dict[str, Tensor](), set[int]()
        for name, rotation in self._rotations.items():
            matrix, directions = self.model.get_submodule(name), rotation.directions.double()
            factors[f"{PREFIX}{name}.lora_A.weight"] = rotation.directions.T
            factors[f"{PREFIX}{name}.lora_B.weight"] = (weight_of(matrix).double() @ directions @ rotation.change().double()).float()
            ranks.add(directions.shape[1])
        (rank,) = ranks
        config = LoraConfig(
            r=rank,
            lora_alpha=rank,
            target_modules=sorted(self._rotations),
            fan_in_fan_out=all(isinstance(self.model.get_submodule(name), Conv1D) for name in self._rotations),
            task_type="CAUSAL_LM",
            base_model_name_or_path=self.model.name_or_path,
        )
        write(folder, config, factors)

    def state(self) -> dict[str, Tensor]:
        """The numbers that moved, and the directions that they are about."""
        return {f"{name}.{CHILD}.{key}": own for name, each in self._rotations.items() for key, own in each.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, rotation in self._rotations.items():
            rotation.load_state_dict({key: state[f"{name}.{CHILD}.{key}"] for key in rotation.state_dict()})


def _turned(matrix: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return matrix.get_submodule(CHILD)(inputs[0]), *inputs[1:]


def weight_of(matrix: nn.Module) -> Tensor:
    """(out, in)."""
    return upright_of(matrix, matrix.get_parameter("weight").detach())
