"""AdamW as torch has it, with clipping of the gradient's norm before it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from workbench.core.method import knob
from workbench.materials import optimizers
from workbench.methods.contracts import Stepper, Update


class AdamW(Update, title="AdamW", paper="arXiv:1711.05101"):
    """Adam with decoupled weight decay, the field's usual optimizer.

    $$\\theta \\leftarrow \\theta - \\eta\\left(\\frac{\\hat m}{\\sqrt{\\hat v} + \\epsilon} + \\lambda\\theta\\right)$$

    Matrices decay, vectors (norms, biases) do not. Clipping bounds the gradient's norm first; under Adam it does not
    bound the step, because Adam divides by the gradient's own size. Ten times smaller learning rates suit full tuning.
    """

    adam = True

    lr: float = knob(2e-3, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")
    weight_decay: float = knob(0.0, ge=0, le=1, help="λ: how strongly matrices are pulled to zero", more=True)
    beta1: float = knob(0.9, ge=0, lt=1, help="how long the mean of the gradient remembers", more=True)
    beta2: float = knob(0.999, ge=0, lt=1, help="how long the mean of its square remembers", more=True)
    eps: float = knob(1e-8, gt=0, le=1, help="keeps the division finite", log=True, more=True)
    clip: float = knob(1.0, ge=0, le=1000, help="largest gradient norm; 0 does not clip", more=True, label="clip gradient norm")

    def begin(self, groups: list[dict[str, Any]]) -> "AdamWStepper":
        return AdamWStepper(self, groups)

    def bytes_per_parameter(self) -> int:
        return 8  # two float32 moments


class AdamWStepper(Stepper):
    """torch's AdamW over the groups, each split into what decays and what does not."""

    def __init__(self, knobs: AdamW, groups: list[dict[str, Any]]):
        self.knobs = knobs
        matrices, vectors = optimizers.by_shape(groups, knobs.lr, knobs.weight_decay)
        self.optimizer = torch.optim.AdamW(matrices + vectors, lr=knobs.lr, betas=(knobs.beta1, knobs.beta2), eps=knobs.eps, fused=True)

    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        optimizers.clip([self.optimizer], self.knobs.clip)
        optimizers.step(self.optimizer, rate)
        return {"lr": self.knobs.lr * rate}

    def within(self) -> list[Optimizer]:
        return [self.optimizer]

    def state(self) -> dict[str, Tensor]:
        return optimizers.state(self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        optimizers.load_state(self.optimizer, state)
