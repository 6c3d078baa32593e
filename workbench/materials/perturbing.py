"""Moving parameters along random directions that are drawn again from a number instead of being kept.

What it is: the machinery of updates that ask for losses alone. What it is not: such an update (`methods/updates/mezo.py`, `es.py`). A
direction is normal numbers for all parameters in their order, drawn on the CPU so that every machine has the same; there and back again
a parameter is off by a rounding [V], which is the price of keeping no copy.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from workbench.materials import optimizers
from workbench.materials.stepper import Stepper

Groups = list[dict[str, Any]]


class Counting(Stepper):
    """A stepper that remembers nothing but how many steps it has taken; all else follows from that.

    `groups` are as an optimizer has them: matrices decay, vectors do not, each group at its own pace.
    """

    def __init__(self, groups: Groups, peak: float, weight_decay: float):
        matrices, vectors = optimizers.by_shape(groups, peak, weight_decay)
        self.groups, self.taken = matrices + vectors, 0

    def within(self) -> list[Optimizer]:
        return []

    def state(self) -> dict[str, Tensor]:
        return {"taken": torch.tensor(self.taken)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.taken = int(state["taken"])

    def inherit(self, older: Stepper) -> None:
        assert isinstance(older, Counting)
        self.taken = older.taken


def directions(groups: Groups, seed: int) -> Iterator[tuple[nn.Parameter, dict[str, Any], Tensor]]:
    """Each parameter with its group and its part of the direction that `seed` stands for."""
    generator = torch.Generator().manual_seed(seed)
    for group in groups:
        for parameter in group["params"]:
            yield parameter, group, torch.randn(parameter.shape, generator=generator).to(parameter)


@torch.no_grad()
def shift(groups: Groups, seed: int, far: float) -> None:
    """Everything `far` along the direction."""
    for parameter, _, direction in directions(groups, seed):
        parameter.add_(direction, alpha=far)


@torch.no_grad()
def decay(groups: Groups, rate: float) -> None:
    """Matrices a little towards zero."""
    for group in groups:
        for parameter in group["params"]:
            parameter.mul_(1 - rate * group["peak"] * group["weight_decay"])


@torch.no_grad()
def step(groups: Groups, seed: int, slope: float, rate: float) -> None:
    """Each parameter against the direction, `slope` times its group's own learning rate at `rate` of its peak."""
    for parameter, group, direction in directions(groups, seed):
        parameter.sub_(direction, alpha=rate * group["peak"] * slope)


def slope(groups: Groups, seed: int, epsilon: float, loss: Callable[[], float]) -> tuple[float, float]:
    """Along the direction: how fast the loss rises, from one reading on either side, and the mean of the two."""
    shift(groups, seed, epsilon)
    above = loss()
    shift(groups, seed, -2 * epsilon)
    below = loss()
    shift(groups, seed, epsilon)
    return (above - below) / (2 * epsilon), (above + below) / 2
