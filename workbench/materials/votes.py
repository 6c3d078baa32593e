"""Task vectors held against each other, number by number: what is left of each, which way the vote goes, and what becomes of it.

What it is not: which changes are dropped and why, which is each method's own affair (`methods/merges/`). A stack is (M, …) float64, the
changes of M models at each number, 0 where a change was dropped. What adds up over blocks of rows says so; the rest is for each
number alone.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def changes(base: Tensor, tuned: Sequence[Tensor]) -> Tensor:
    """The stack of the task vectors τᵢ = θᵢ − θ₀."""
    origin = base.double()
    return torch.stack([model.double().sub_(origin) for model in tuned])


def trimmed(base: Tensor, tuned: Sequence[Tensor], cuts: Sequence[Sequence[float]] | None) -> Tensor:
    """The stack without the changes that are smaller than their model's cut, which is the first of its order statistics.

    Sizes are compared as the float32 numbers that were ranked, so the number of that rank itself stays. Without cuts all stays.
    """
    stack = changes(base, tuned)
    if cuts:
        for change, model, cut in zip(stack, tuned, cuts, strict=True):
            change.masked_fill_((model - base).abs() < cut[0], 0.0)
    return stack


def weighted(stack: Tensor, weights: Sequence[float] | Tensor) -> Tensor:
    """Each model's changes times its weight."""
    return stack * _shares(stack, weights)


def elected(stack: Tensor) -> Tensor:
    """(M, …) 1 where a change goes with the vote, which is the sign of the sum, else 0; where the votes cancel + has won."""
    sign = torch.where(stack.sum(0) < 0, -1.0, 1.0)
    return (stack.sign() == sign).double()


def combined(stack: Tensor, agree: Tensor, weights: Sequence[float], how: Literal["mean", "sum", "largest"]) -> Tensor:
    """(…) what becomes of those who agree, from a weighted stack; 0 where there are none. The mean is over their weights."""
    stack = stack * agree
    if how == "largest":
        return stack.gather(0, stack.abs().argmax(0, keepdim=True))[0]
    if how == "sum":
        return stack.sum(0)
    total = (_shares(agree, weights) * agree).sum(0)
    return torch.where(total.abs() > 0, stack.sum(0) / total, 0.0)


def told(stack: Tensor, agree: Tensor) -> dict[str, float]:
    """`kept`, the share of all numbers at which at least one model's change is left; `agree`, the share of all numbers at which nothing
    that is left goes against the vote. Both are means over numbers."""
    voted = stack != 0
    return {"kept": float(voted.any(0).double().mean()), "agree": 1 - float((voted & (agree == 0)).any(0).double().mean())}


def lengths(before: Tensor, after: Tensor) -> Tensor:
    """(2, M) Σ|τᵢ| of two stacks; those of two blocks of rows add up."""
    return torch.stack([stack.abs().reshape(len(stack), -1).sum(1) for stack in (before, after)])


def restoring(lengths: Tensor) -> Tensor:
    """(M,) the factors that give each model its first length back; 1 where nothing is left to be scaled.

    They are float32 numbers, so that sums which differ in the last digit of float64 with the blocks do not change a byte.
    """
    before, after = lengths
    return torch.where(after > 0, before / after, 1.0).float().double()


def _shares(stack: Tensor, weights: Sequence[float] | Tensor) -> Tensor:
    """(M, 1, …) weights that fit a stack, where it lies."""
    return torch.as_tensor(weights, dtype=torch.float64).to(stack.device).reshape(-1, *[1] * (stack.dim() - 1))
