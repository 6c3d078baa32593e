"""Some channels of the residual stream, mixed anew where a block ends; the other channels pass.

    x_c ← x_c + s (L x_c + b),   c the K channels of the D

What it is not: which channels, which is a method's (`methods/adapters/sct.py`). With L and b at zero it adds nothing, to the bit. The
stream goes by all matrices of the block, so no change of theirs equals it [D].
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from workbench.materials.beside import Beside


class Channels(Beside):
    """Beside a block, of which it reads and changes what the next one is given; zero until it is set."""

    def __init__(self, channels: Sequence[int], scale: float, width: int):
        super().__init__()
        self.channels, self.scale = [int(channel) for channel in channels], float(scale)
        if not all(0 <= channel < width for channel in self.channels) or len(set(self.channels)) < len(self.channels):
            raise ValueError(f"channels are numbers from 0 to {width - 1}, each once")
        self.register_buffer("place", torch.tensor(self.channels, dtype=torch.long), persistent=False)
        self.mix = nn.Parameter(torch.zeros(len(self.channels), len(self.channels)))
        self.bias = nn.Parameter(torch.zeros(len(self.channels)))

    @classmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        return cls(**settings, width=model.config.hidden_size)

    def settings(self) -> dict[str, Any]:
        return {"channels": self.channels, "scale": self.scale}

    def hook(self, host: nn.Module) -> None:
        host.register_forward_hook(self._mixed)

    def forward(self, stream: Tensor) -> Tensor:
        mixed = linear(stream[..., self.place], self.mix.to(stream.dtype), self.bias.to(stream.dtype))
        return stream.index_add(-1, self.place, (self.scale * mixed).to(stream.dtype))

    def _mixed(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...]:
        if self.still:
            return output
        return (self(output[0]), *output[1:]) if isinstance(output, tuple) else self(output)
