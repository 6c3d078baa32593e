"""What a loss is told of the tokens that are learnt: how surprising each is, which answer and task it belongs to.

What it is not: the reading of a model (`jobs/objective.py`), or what a surprise is worth (`methods/losses/`).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Learnt:
    """The W learnt tokens of a whole accumulation window, known before any forward pass; integers, and a score in float32.

    row: the answer a token belongs to. task: its row's task. score: what the loss made of its judges' readings.
    """

    row: Tensor
    task: Tensor
    score: Tensor


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


def kl(of: Tensor, to: Tensor) -> Tensor:
    """KL(of ‖ to) in nats of (…, V) log-probabilities, over the last dimension."""
    return (of.exp() * (of - to)).sum(-1)
