"""What a training run will move and cost, before it starts. Knows the model's shape only (meta device), loads no weights.

Memory is an estimate: weights, gradients and optimizer state follow from counts; activations are modelled per layer for a
forward pass that keeps everything for the backward one. It is not calibrated against measured runs yet.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.machine import memory_total
from workbench.materials.models import available, place, resolve, skeleton


@dataclass(frozen=True)
class Estimate:
    """`by_module`: (module, layer or -1, parameters that move, parameters there); `memory`: (item, bytes), in order of size."""

    trained: int
    total: int
    by_module: list[tuple[str, int, int, int]]
    memory: list[tuple[str, int]]
    machine_bytes: int

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.memory)


def estimate(spec: TrainSpec, workspace: Workspace) -> Estimate:
    """The cost of `spec` on this machine; wrong references and impossible adapters are `WorkbenchError`s."""
    model = skeleton(resolve(spec.model, workspace).path)
    cost = spec.adapter.cost(model)
    _, dtype = place()
    width = torch.float32.itemsize if spec.adapter.whole else dtype.itemsize
    adapter = 0 if spec.adapter.whole else 4 * cost.trained
    memory = [
        ("weights", width * cost.total),
        ("copy of the start", 4 * cost.trained if spec.adapter.whole else 0),
        ("adapter", adapter),
        ("gradients", 4 * cost.trained),
        ("optimizer", spec.update.bytes_per_parameter() * cost.trained),
        ("activations", _activations(model, spec, width)),
    ]
    return Estimate(cost.trained, cost.total, cost.by_module, [(item, size) for item, size in memory if size], memory_total())


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """The base models that can be chosen without typing, as (reference, label)."""
    return [(choice.reference, choice.label) for choice in available(workspace)]


def _activations(model: PreTrainedModel, spec: TrainSpec, width: int) -> int:
    """Bytes kept for the backward pass at the longest rows allowed.

    A decoder block keeps about 10 tensors of the model's width, 4 of the MLP's, and the heads' queries, keys and values,
    for every token; the head keeps three float32 tables of the vocabulary for every trained token (half of them, typically).
    """
    config = model.config
    tokens = spec.batch_size * spec.data.max_length
    block = 10 * config.hidden_size + 4 * config.to_dict().get("intermediate_size", 4 * config.hidden_size) + 3 * config.hidden_size
    return tokens * (config.num_hidden_layers * block * width + config.vocab_size * 3 * 4 // 2)
