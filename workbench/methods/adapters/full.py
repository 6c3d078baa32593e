"""Full fine-tuning: every weight of the base may move. Not here: choosing a part of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.materials.region import cost
from workbench.methods.contracts import Adapter, Attachment, Cost


class Full(Adapter, title="Full tuning"):
    """Let every weight of the model move.

    $$\\theta' = \\theta + \\Delta, \\qquad \\Delta \\text{ unrestricted}$$

    The strongest and the most forgetful way to learn, and the dearest: gradients and optimizer state for every weight,
    and one more copy of the weights at the start, which shows what is being forgotten. Learning rates are ten to a
    hundred times smaller than for LoRA.
    """

    whole = True

    embeddings: bool = knob(True, help="whether the token embeddings (and a head tied to them) move too")

    def attach(self, model: PreTrainedModel, seed: int) -> "FullAttachment":
        kept = self._kept(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in kept)
        return FullAttachment(model)

    def cost(self, model: PreTrainedModel) -> Cost:
        kept = self._kept(model)
        return cost(model, {name: parameter.numel() for name, parameter in model.named_parameters() if name not in kept})

    def _kept(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters that stay frozen."""
        if self.embeddings:
            return set()
        held = [*model.get_input_embeddings().parameters(), *model.get_output_embeddings().parameters()]
        return {name for name, parameter in model.named_parameters() if any(parameter is other for other in held)}


class FullAttachment(Attachment):
    """The model itself, and its weights as they were."""

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.start = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.trained()}

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [parameter for _, parameter in self.trained()]}]

    @contextmanager
    def base(self) -> Iterator[None]:
        tuned = {name: parameter.detach().clone() for name, parameter in self.trained()}
        self._put(self.start)
        try:
            yield
        finally:
            self._put(tuned)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder, safe_serialization=True)

    def state(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.trained()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._put(state)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.trained():
            parameter.copy_(values[name])
