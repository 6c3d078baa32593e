"""Loss scaling: float16 has no numbers below 6e-8, so small gradients are lifted into its range on their way and set down after it.

The factor doubles after a while without overflow and halves with one, whose step is left out [arXiv:1710.03740]. torch's own scaler
does the same, but wants to hold the optimizer, which an update keeps to itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

PATIENCE = 2000  # steps without overflow after which the factor is doubled
START = 65_536.0


@dataclass
class Scaling:
    """`factor` multiplies the loss; `since`: steps since it last changed; `overflowed`: whether the last gradients did not fit."""

    on: bool
    factor: float = START
    since: float = 0
    overflowed: bool = False

    def up(self, loss: Tensor) -> Tensor:
        return loss * self.factor if self.on else loss

    @torch.no_grad()
    def down(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set the gradients down again, and take the factor for the next step from how they came out."""
        if not self.on:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for gradient in gradients:
            gradient.div_(self.factor)
        self.overflowed = not all(bool(gradient.isfinite().all()) for gradient in gradients)
        self.since = 0 if self.overflowed else self.since + 1
        if self.overflowed:
            self.factor /= 2
        elif self.since >= PATIENCE:
            self.factor, self.since = 2 * self.factor, 0

    @property
    def spared(self) -> bool:
        """Whether a step is left out only because the factor was too high; below 1 the gradients themselves are too large."""
        return self.overflowed and self.factor >= 1

    def figures(self) -> dict[str, float]:
        return {"loss_scale": self.factor} if self.on else {}

    def state(self) -> dict[str, Tensor]:
        return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in asdict(self).items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if state:
            self.factor, self.since = state["factor"].item(), state["since"].item()
