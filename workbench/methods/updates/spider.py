"""SPIDER: AdamW whose steps are held back where a number matters more to the base than to the task.

Learn from Downstream and Be Yourself in Multimodal Large Language Model Fine-Tuning, 2024. Tags as in the project's notes: [P] abstract,
[R] read in the published code (WenkeHuang/SPIDER, Code/train/SPIDER.py), [D] derived, [O] our own choice.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core.adam import Adam
from workbench.core.method import knob
from workbench.materials import optimizers
from workbench.materials.adam import AdamStepper
from workbench.materials.attachment import Carry
from workbench.methods.contracts import Update

START, PULL = "start", "pull"  # beside the moments of a parameter: where it stood at first, and the sum of its gradients since


class SPIDER(Adam, Update, title="SPIDER (be yourself)"):
    """Let the numbers move that matter more to the task than to the base, and keep the others where they were.

    $$\\theta \\leftarrow \\theta_0 + M \\odot (\\theta' - \\theta_0), \\qquad M = \\min\\left(1, \\frac{m}{\\bar m}\\right), \\qquad
    m = \\frac{T}{B + T} \\;\\text{ where } T > B, \\text{ else } 0$$

    θ′ is where AdamW would go. What matters to the base is told by the size of a weight, what matters to the task by the size of its
    gradients added up so far: B and T are these two, each measured against the other numbers of its tensor by mean and standard deviation
    and passed through a sigmoid; m̄ is the mean of m where it is above 0 [R]. About half of the numbers stay what they were, and the
    model keeps more of what it knew [P].

    A number that falls out of the choice goes back to where it began [R]. Here it goes there at the pace of the schedule, so that a lower
    rate is a shorter step: at the peak it is the published step, and below it the same share of it [O]. Made for full tuning; of LoRA's B,
    which begins at 0, all numbers count as free to move [D]. Where all numbers of a tensor are alike, as in a fresh norm, each has B = ½
    [O]; the published code divides by 0 there. It holds a copy of the start and the sum of the gradients beside AdamW's moments.
    """

    lr: float = knob(2e-3, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")

    def costs(self) -> str:
        return "Memory for three more copies of what is trained: its start, the sum of its gradients, and where it stood before a step."

    def begin(self, groups: list[dict[str, Any]]) -> "SPIDERStepper":
        return SPIDERStepper(self, self.lr, groups)

    def bytes_per_parameter(self) -> int:
        return 20  # two float32 moments, the start, the sum of the gradients, and during a step where it began


class SPIDERStepper(AdamStepper):
    """AdamW; what it does is taken back in part."""

    @torch.no_grad()
    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        optimizers.clip([self.optimizer], self.clip)
        every = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moving = [(parameter, parameter.detach().clone(), parameter.grad) for parameter in every if parameter.grad is not None]
        optimizers.step(self.optimizer, 1.0)
        for parameter, before, gradient in moving:
            held = self.optimizer.state[parameter]
            start, pull = held.setdefault(START, before), held.setdefault(PULL, torch.zeros_like(before)).add_(gradient)
            wanted = start.lerp(parameter, freedom(start, pull))
            parameter.copy_(before.lerp(wanted, rate))
        return {"lr": self.lr * rate}

    def carry(self, parameter: nn.Parameter, carry: Carry) -> None:
        """Numbers that are new begin where they stand."""
        super().carry(parameter, carry)
        held = self.optimizer.state.get(parameter, {})
        if START in held:
            stays = carry(torch.ones_like(held[START])) > 0
            held[START] = torch.where(stays, held[START], parameter.detach())


def freedom(start: Tensor, pull: Tensor) -> Tensor:
    """M, in [0, 1], of each number, from where it began and the sum of its gradients."""
    base, task = standing(start), standing(pull)
    free = torch.where(task > base, task / (base + task), 0)
    return (free * (free > 0).sum() / free.sum().clamp(min=torch.finfo(free.dtype).tiny)).clamp(max=1)


def standing(numbers: Tensor) -> Tensor:
    """In (0, 1), how large each is among the others; 0 where all of them are 0."""
    size = numbers.abs()
    spread = size.std(correction=min(1, size.numel() - 1)).clamp(min=torch.finfo(size.dtype).tiny)
    return ((size - size.mean()) / spread).sigmoid() * size.any()
