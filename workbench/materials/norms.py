"""The norms of a model: which modules they are, and their training apart from everything else.

What is trained is the model's own gains and shifts, with their values in float32 beside them (`region.py`); what is saved is peft's
LN_TUNING, whole norms that stand in the place of the base's. What it is not: which of them move (`methods/adapters/layer_norm.py`).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LNTuningConfig
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from workbench.materials.lora import PREFIX
from workbench.materials.models import ADAPTER
from workbench.materials.region import RegionAttachment
from workbench.materials.regions import Rows


def norms(model: PreTrainedModel) -> dict[str, nn.Module]:
    """By name the modules without parts whose numbers are all vectors, a gain among them."""
    return {name: module for name, module in model.named_modules() if not list(module.children()) and _only_vectors(module)}


def _only_vectors(module: nn.Module) -> bool:
    own = dict(module.named_parameters())
    return "weight" in own and all(parameter.ndim == 1 for parameter in own.values())


class NormAttachment(RegionAttachment):
    """The gains and shifts named move, in whole; `counts` says how many numbers each has."""

    def __init__(self, model: PreTrainedModel, counts: Mapping[str, int]):
        super().__init__(model, {name: Rows(torch.arange(count)) for name, count in counts.items()})

    def save(self, folder: Path) -> None:
        tensors, moved = {}, set[str]()
        for name, numbers in self.trained():
            norm, _, key = name.rpartition(".")
            tensors[f"{PREFIX}{norm}.ln_tuning_layers.{key}"] = numbers.detach().cpu().contiguous()
            moved.add(norm)
        config = LNTuningConfig(
            target_modules=sorted(moved), task_type="CAUSAL_LM", base_model_name_or_path=self.model.name_or_path, inference_mode=True
        )
        config.save_pretrained(folder)
        save_file(tensors, folder / ADAPTER[1], metadata={"format": "pt"})
