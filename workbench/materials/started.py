"""LoRAs that start elsewhere than at zero, beside a base that stays as it was.

What it is: the layers and the attachment of every method that starts A and B from the matrix itself. What it is not: the start, which is a
method's (`methods/adapters/`). Their papers take the start out of W, so that the model is the same: W − sB₀A₀ + sBA. Here W stays, and
beside it stands what A and B differ from their start by, in an order in which nothing is lost:

    s(BA − B₀A₀) = s((B − B₀)A + B₀(A − A₀))

From this follows what the tests hold it to. A and B have the gradients that they have in the papers. At the start both differences are
zero in every number, so the model says what it said, to the bit. The base is had back exactly, and is never rounded, as W − sB₀A₀ is where
W lies in bfloat16. No large terms cancel, so a small change is not lost in half precision. What is saved is one plain LoRA of rank 2r,
[B − B₀, B₀]·[A; A − A₀], for the untouched base. The price is r(m + n) more numbers in memory. Dropout drops inputs of the change, which
at the start is none.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor
from transformers import PreTrainedModel

from workbench.materials.attachment import Cost
from workbench.materials.lora import PREFIX
from workbench.materials.low_rank import FIRST, LowRankAttachment, cost, layers, within, wrapped, write


class Started:
    """Mixed into the methods that find A and B of each matrix and leave the rest to this module."""

    held = 8  # where each number began, too
    stored = 8

    def attach(self: Any, model: PreTrainedModel, seed: int, learnt: Mapping[str, Tensor]) -> "StartedAttachment":
        return StartedAttachment(wrapped(model, self, seed), learnt)

    def cost(self: Any, model: PreTrainedModel) -> Cost:
        within(model, self)
        found = cost(model, self)
        return replace(found, studied=4 * found.trained)


@dataclass
class Start(LoraVariant):
    """Where A (r, n) and B (m, r) of one layer began; as peft's variant of that layer it computes what they have become."""

    a: Tensor
    b: Tensor

    def forward(self, layer: LoraLayer, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        a, b = layer.lora_A[active_adapter].weight, layer.lora_B[active_adapter].weight
        x = layer.lora_dropout[active_adapter](x)
        change = F.linear(F.linear(x, a), b - self.b) + F.linear(F.linear(x, a - self.a), self.b)
        return result + change * layer.scaling[active_adapter]


class StartedAttachment(LowRankAttachment):
    """A (r, n) and B (m, r) of each layer begin as `starts` has them, by the layer's name: `….up_proj.A`."""

    @torch.no_grad()
    def __init__(self, wrapper: PeftModel, starts: Mapping[str, Tensor]):
        super().__init__(wrapper)
        self.starts = dict[str, Start]()
        for name, layer in layers(self.model):
            a, b = layer.lora_A[FIRST].weight, layer.lora_B[FIRST].weight
            self.starts[name] = Start(a.copy_(starts[f"{name}.A"]).detach().clone(), b.copy_(starts[f"{name}.B"]).detach().clone())
            layer.lora_variant[FIRST] = self.starts[name]

    def state(self) -> dict[str, Tensor]:
        """The start too: a decomposition comes out a little different on another machine."""
        state = dict[str, Tensor]()
        for name, layer in layers(self.model):
            state |= {f"{name}.A": layer.lora_A[FIRST].weight.detach(), f"{name}.B": layer.lora_B[FIRST].weight.detach()}
            state |= {f"{name}.A at the start": self.starts[name].a, f"{name}.B at the start": self.starts[name].b}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def save(self, folder: Path) -> None:
        factors = dict[str, Tensor]()
        for name, layer in layers(self.model):
            a, b, start = layer.lora_A[FIRST].weight, layer.lora_B[FIRST].weight, self.starts[name]
            factors[f"{PREFIX}{name}.lora_A.weight"] = torch.cat([a, a - start.a])
            factors[f"{PREFIX}{name}.lora_B.weight"] = torch.cat([b - start.b, start.b], 1)
        config = copy.deepcopy(self.wrapper.peft_config[FIRST])
        config.r, config.lora_alpha = 2 * config.r, 2 * config.lora_alpha
        write(folder, config, factors)
