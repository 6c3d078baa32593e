"""Selective LoRA: LoRA layers that switch themselves off. Not here: the layers, which are LoRA's (`materials/low_rank.py`).

Fine Tuning without Catastrophic Forgetting via Selective Low Rank Adaptation, 2025. Its gates are those of Task Adaptive Parameter Sharing,
2022, arXiv:2203.16708. Tags as in the project's notes: [P] abstract, [R] read in the code of the older paper (models/taps_net.py), [V]
measured on a toy, [D] derived, [O] our own choice.
"""

import copy
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor, nn
from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.lora import PREFIX
from workbench.materials.low_rank import FIRST, LowRankAttachment
from workbench.materials.models import layer_of
from workbench.methods.contracts import Adapter, Cost

BEGIN = 0.15
THRESHOLD = 0.1


class SelectiveLoRA(Ranked, Adapter, title="Selective LoRA (layers that switch off)", paper="arXiv:2501.15377"):
    """Train a LoRA whose layers stay switched on only where the task needs them.

    $$W' = W + \\frac{\\alpha}{r}\\, [g \\ge \\tau]\\, B A, \\qquad L' = L + \\lambda \\sum |g|$$

    Each matrix has a gate g. A layer whose gate has fallen below τ adds nothing at all, and its matrix is the base's. The gradient goes
    through the threshold as if it were not there, so a gate that is shut can open again; A and B of a shut layer rest. As few as
    5 % of the layers can be enough, and what the model knew is kept better [P]. Gates begin at 0.15, τ is 0.1 [R].

    λ is the trade: on a toy with 28 matrices 28, 15, 12 and 7 stayed on at 0, 0.02, 0.05 and 0.1; each learnt less and forgot less than
    the one before [V]. The penalty enters by its gradient, λ·sign(g), so the loss that is shown is that of the task. Adam moves a gate by
    about the learning rate each step, so none shuts before 0.05 / rate steps [D]. Saved are the layers that are on, as a plain LoRA.
    """

    over_rounded = True

    penalty: float = knob(0.02, ge=0, le=10, help="λ: how strongly every layer is urged to switch itself off")

    def attach(self, model: PreTrainedModel, seed: int) -> "SelectiveAttachment":
        return SelectiveAttachment(low_rank.wrapped(model, self, seed), self.penalty)

    def cost(self, model: PreTrainedModel) -> Cost:
        return low_rank.cost(model, self, lambda outs, ins: self.rank * (outs + ins) + 1)


@dataclass
class Gate(LoraVariant):
    """As peft's variant of one layer: what the layer adds, or nothing."""

    level: nn.Parameter

    def forward(self, layer: LoraLayer, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        change = layer.lora_B[active_adapter](layer.lora_A[active_adapter](layer.lora_dropout[active_adapter](x)))
        switch = (self.level >= THRESHOLD).to(self.level) + (self.level - self.level.detach())  # 0 or 1, with the gradient of the level
        return result + change * (layer.scaling[active_adapter] * switch)

    @property
    def on(self) -> bool:
        return bool(self.level >= THRESHOLD)


class SelectiveAttachment(LowRankAttachment):
    """LoRA's layers, each with a gate of its own."""

    def __init__(self, wrapper: PeftModel, penalty: float):
        super().__init__(wrapper)
        self.penalty = penalty
        self.gates = dict[str, Gate]()
        for name, layer in low_rank.layers(self.model):
            level = nn.Parameter(torch.full_like(layer.lora_A[FIRST].weight[0, 0], BEGIN))
            layer.register_parameter("lora_gate", level)
            layer.lora_variant[FIRST] = self.gates[name] = Gate(level)

    @torch.no_grad()
    def before_step(self, step: int) -> None:
        for gate in self.gates.values():
            if gate.level.grad is not None:
                gate.level.grad += self.penalty * gate.level.sign()

    def moving(self) -> dict[int, float]:
        """By block, the share of its layers that are on."""
        on = defaultdict[int, list[bool]](list)
        for name, gate in self.gates.items():
            on[layer_of(name + ".") or 0].append(gate.on)
        return {layer: sum(gates) / len(gates) for layer, gates in on.items()}

    def state(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.trained()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def save(self, folder: Path) -> None:
        """The layers that are on; where none is, one that adds nothing, because peft opens no adapter without a layer."""
        config, factors = copy.deepcopy(self.wrapper.peft_config[FIRST]), dict[str, Tensor]()
        config.target_modules = [name for name, gate in self.gates.items() if gate.on] or [next(iter(self.gates))]
        for name in config.target_modules:
            layer = self.model.get_submodule(name)
            assert isinstance(layer, LoraLayer)
            factors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A[FIRST].weight
            factors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B[FIRST].weight * self.gates[name].on
        low_rank.write(folder, config, factors)
