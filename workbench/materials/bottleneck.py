"""A bottleneck beside an MLP: down to a few units, through a ReLU, and up again, added to what the MLP says.

    parallel    y = F(x) + s · (W_up relu(W_down x + b_down) + b_up)
    sequential  y = F(x) + s · (W_up relu(W_down F(x) + b_down) + b_up)

What it is not: which MLPs, and how it starts, which is a method's (`methods/adapters/parallel_adapter.py`). With W_up and b_up at zero it
adds nothing, to the bit. The ReLU is why no change of the weights equals it.
"""

from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from workbench.materials.beside import Beside

Form = Literal["parallel", "sequential"]


class Bottleneck(Beside):
    """`units` of them between two matrices; all its numbers are zero until they are set."""

    def __init__(self, width: int, units: int, scale: float, form: Form):
        super().__init__()
        if form not in get_args(Form):
            raise ValueError(f"{form!r} is no form; there are {' and '.join(get_args(Form))}")
        self.units, self.scale, self.form = units, float(scale), form
        self.down = nn.Parameter(torch.zeros(units, width))
        self.down_bias = nn.Parameter(torch.zeros(units))
        self.up = nn.Parameter(torch.zeros(width, units))
        self.up_bias = nn.Parameter(torch.zeros(width))

    @classmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        return cls(model.config.hidden_size, **settings)

    def settings(self) -> dict[str, Any]:
        return {"units": self.units, "scale": self.scale, "form": self.form}

    def hook(self, host: nn.Module) -> None:
        host.register_forward_hook(self._add)

    def forward(self, inputs: Tensor) -> Tensor:
        down, down_bias, up, up_bias = (own.to(inputs.dtype) for own in (self.down, self.down_bias, self.up, self.up_bias))
        return self.scale * linear(linear(inputs, down, down_bias).relu(), up, up_bias)

    def _add(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if self.still:
            return output
        return output + self(inputs[0] if self.form == "parallel" else output)
