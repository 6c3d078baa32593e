"""GMT: AdamW that is shown the largest gradients of each tensor only.

Gradient-Mask Tuning Elevates the Upper Limits of LLM Performance, AAAI 2025 (a re-implementation names arXiv:2406.15330). Tags as in the
project's notes: [P] abstract, [N] that re-implementation (gucci-j/ssu, gmt_trainer.py), [D] derived, [O] our own choice.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from workbench.core.adam import Adam
from workbench.core.method import knob
from workbench.materials.adam import AdamStepper
from workbench.methods.contracts import Update


class GMT(Adam, Update, title="GMT (largest gradients)"):
    """Keep the largest gradients of each tensor and set the others to zero, then step with AdamW.

    $$g'_i = g_i \\;\\text{ where } |g_i| \\text{ is among the } \\lceil \\rho\\, n \\rceil \\text{ largest of its tensor}, \\qquad
    g'_i = 0 \\;\\text{ elsewhere}$$

    Of what a batch asks for, a part is enough, and leaving the rest out raises the results, say the authors [P]. A share ρ of 0.2 is the
    re-implementation's default [N]. There each batch is masked before it is added up; here the sum of a step's batches is [O]. Clipping
    comes after it.

    All numbers may move in the end, and all have their moments, so it spares no memory. A number whose gradient is left out still goes on
    by its momentum for some steps [D].
    """

    lr: float = knob(2e-3, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")
    share: float = knob(0.2, gt=0, le=1, step=0.05, help="ρ: share of each tensor's gradients that is kept; 1 is AdamW")

    def begin(self, groups: list[dict[str, Any]]) -> "GMTStepper":
        return GMTStepper(self, groups)


class GMTStepper(AdamStepper):
    """AdamW, given what is kept of the gradients."""

    def __init__(self, knobs: GMT, groups: list[dict[str, Any]]):
        super().__init__(knobs, knobs.lr, groups)
        self.share = knobs.share

    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad = largest(parameter.grad, self.share)
        return super().step(rate, again)


def largest(gradient: Tensor, share: float) -> Tensor:
    """The gradient with zeros but for the ⌈share · n⌉ numbers of largest size."""
    flat = gradient.flatten()
    kept = flat.abs().topk(math.ceil(share * len(flat)), sorted=False).indices
    return torch.zeros_like(flat).scatter(0, kept, flat[kept]).view_as(gradient)
