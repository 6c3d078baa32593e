"""torch's AdamW at work on what moves: the stepper of AdamW itself, and of every update that does something to its gradients or its step.

What it is not: such an update (`methods/updates/`), or its knobs (`core/adam.py`).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from workbench.core.adam import Adam
from workbench.materials import optimizers
from workbench.materials.stepper import Stepper


class AdamStepper(Stepper):
    """AdamW over the groups, each split into what decays and what does not, with the gradient's norm clipped before."""

    def __init__(self, knobs: Adam, lr: float, groups: list[dict[str, Any]]):
        self.lr, self.clip = lr, knobs.clip
        matrices, vectors = optimizers.by_shape(groups, lr, knobs.weight_decay)
        self.optimizer = torch.optim.AdamW(matrices + vectors, lr=lr, betas=(knobs.beta1, knobs.beta2), eps=knobs.eps, fused=True)

    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        optimizers.clip([self.optimizer], self.clip)
        optimizers.step(self.optimizer, rate)
        return {"lr": self.lr * rate}

    def within(self) -> list[Optimizer]:
        return [self.optimizer]

    def state(self) -> dict[str, Tensor]:
        return optimizers.state(self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        optimizers.load_state(self.optimizer, state)
