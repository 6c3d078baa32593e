"""GMT: AdamW that is shown the largest gradients of each tensor only.

Gradient-Mask Tuning Elevates the Upper Limits of LLM Performance, AAAI 2025 (a re-implementation names arXiv:2406.15330). Tags as in the
project's notes: [P] abstract, [N] that re-implementation (gucci-j/ssu, gmt_trainer.py), [D] derived, [O] our own choice.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from workbench.core.method import knob
from workbench.materials import optimizers
from workbench.methods.contracts import Stepper, Update


class GMT(Update, title="GMT (largest gradients)"):
    """Keep the largest gradients of each tensor and set the others to zero, then step with AdamW.

    $$g'_i = g_i \\;\\text{ where } |g_i| \\text{ is among the } \\lceil \\rho\\, n \\rceil \\text{ largest of its tensor}, \\qquad
    g'_i = 0 \\;\\text{ elsewhere}$$

    Of what a batch asks for, a part is enough, and leaving the rest out raises the results, say the authors [P]. A share ρ of 0.2 is the
    re-implementation's default [N]. There each batch is masked before it is added up; here the sum of a step's batches is [O]. Clipping
    comes after it.

    All numbers may move in the end, and all have their moments, so it spares no memory. A number whose gradient is left out still goes on
    by its momentum for some steps [D].
    """

    adam = True

    lr: float = knob(2e-3, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")
    share: float = knob(0.2, gt=0, le=1, step=0.05, help="ρ: share of each tensor's gradients that is kept; 1 is AdamW")
    weight_decay: float = knob(0.0, ge=0, le=1, help="λ: how strongly matrices are pulled to zero", more=True)
    beta1: float = knob(0.9, ge=0, lt=1, help="how long the mean of the gradient remembers", more=True)
    beta2: float = knob(0.999, ge=0, lt=1, help="how long the mean of its square remembers", more=True)
    eps: float = knob(1e-8, gt=0, le=1, help="keeps the division finite", log=True, more=True)
    clip: float = knob(1.0, ge=0, le=1000, help="largest gradient norm; 0 does not clip", more=True, label="clip gradient norm")

    def begin(self, groups: list[dict[str, Any]]) -> "GMTStepper":
        return GMTStepper(self, groups)

    def bytes_per_parameter(self) -> int:
        return 8  # two float32 moments


class GMTStepper(Stepper):
    """torch's AdamW over the groups, given what is kept of the gradients."""

    def __init__(self, knobs: GMT, groups: list[dict[str, Any]]):
        self.knobs = knobs
        matrices, vectors = optimizers.by_shape(groups, knobs.lr, knobs.weight_decay)
        self.optimizer = torch.optim.AdamW(matrices + vectors, lr=knobs.lr, betas=(knobs.beta1, knobs.beta2), eps=knobs.eps, fused=True)

    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad = largest(parameter.grad, self.knobs.share)
        optimizers.clip([self.optimizer], self.knobs.clip)
        optimizers.step(self.optimizer, rate)
        return {"lr": self.knobs.lr * rate}

    def within(self) -> list[Optimizer]:
        return [self.optimizer]

    def state(self) -> dict[str, Tensor]:
        return optimizers.state(self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        optimizers.load_state(self.optimizer, state)


def largest(gradient: Tensor, share: float) -> Tensor:
    """The gradient with zeros but for the ⌈share · n⌉ numbers of largest size."""
    flat = gradient.flatten()
    kept = flat.abs().topk(math.ceil(share * len(flat)), sorted=False).indices
    return torch.zeros_like(flat).scatter(0, kept, flat[kept]).view_as(gradient)
