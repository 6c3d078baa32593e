"""What a loss is told of the tokens that are learnt: how surprising each is, which answer and task it belongs to.

What it is not: the reading of a model (`jobs/objective.py`), or what a surprise is worth (`methods/losses/`).
"""

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from workbench.materials.convergence import Convergence

Read = TypeVar("Read", bound=Any)
"""A frozen value with a `table` (N, V) and the labels' `logp` (N,) of it."""


@dataclass(frozen=True)
class Learnt:
    """The W learnt tokens of a whole accumulation window, known before any forward pass; integers, and a score in float32.

    row: the answer a token belongs to. task: its row's task. score: what the loss made of its judges' readings.
    weight: (K,) of each of the K tasks, where the loss follows how they converge, and else empty.
    """

    row: Tensor
    task: Tensor
    score: Tensor
    weight: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class TokenStats:
    """Per-token statistics of the current model, (B, T) or any one shape, float32; `mask` is 1 where a token is learnt.

    logp: log-probability of the label, carries the gradient. entropy: nats, without gradient, over as much of the vocabulary
    as the loss asks for with `entropy_over`. row: which answer a token belongs to, any integers; without it each line of a
    (B, T) tensor is one answer. task, score: as in `Learnt`. window: all learnt tokens of the step, of which these are a part.
    share: how much of the run is over, 0 to 1. vocabulary: how many tokens there are to choose from.
    """

    logp: Tensor
    mask: Tensor
    entropy: Tensor | None = None
    row: Tensor | None = None
    task: Tensor | None = None
    score: Tensor | None = None
    window: Learnt | None = None
    share: float = 0.0
    vocabulary: int = 0

    def summed(self, values: Tensor) -> Tensor:
        """Σ mask · values over the answer that a token belongs to, at every token of it."""
        values = self.mask * values
        if self.row is None:
            return values.sum(-1, keepdim=True).expand_as(values)
        rows, place = self.row.flatten().unique(return_inverse=True)
        totals = values.new_zeros(len(rows)).index_add(0, place, values.flatten())
        return totals[place].view_as(values)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over the learnt tokens."""
        return (self.mask * values).sum() / self.mask.sum().clamp(min=1)


class Spoken:
    """Who speaks where a loss learns: the model alone, unless the loss says otherwise."""

    def convergence(self, tasks: int) -> Convergence | None:
        """What follows the validation losses of so many tasks, for a loss that weighs them by it (`Learnt.weight`)."""
        return None

    def alone(self) -> bool:
        """Whether it is the model alone; where it is not, the loss needs the base."""
        return True

    def spoken(self, table: Tensor, base: Tensor) -> Tensor:
        """(N, V) log-probabilities of whoever speaks, from those of the model and of the base by themselves."""
        return table

    def read(self, own: Read, base: Tensor | None, labels: Tensor) -> Read:
        """What the loss learns from, of what the model made of a batch by itself."""
        if base is None or self.alone():
            return own
        table = self.spoken(own.table, base)
        return replace(own, table=table, logp=table.gather(1, labels[:, None])[:, 0])


def kl(of: Tensor, to: Tensor) -> Tensor:
    """KL(of ‖ to) in nats of (…, V) log-probabilities, over the last dimension."""
    return (of.exp() * (of - to)).sum(-1)
