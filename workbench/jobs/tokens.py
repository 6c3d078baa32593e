"""From a batch to what a loss is told of its trained tokens. Knows no step and no optimizer."""

import torch
from torch import Tensor

from workbench.methods.contracts import Loss, TokenStats


def token_stats(table: Tensor, batch: dict[str, Tensor], loss: Loss | None = None) -> TokenStats:
    """What a loss is told of the trained tokens, (N,), from their (N, V) log-probabilities."""
    labels = batch["labels"][:, 1:]
    learnt = labels != -100
    logp = table.gather(1, labels[learnt][:, None])[:, 0]
    over = loss.entropy_over() if loss else None
    entropy = None if over is None else entropy_of(table.detach(), over)
    return TokenStats(logp, torch.ones_like(logp), entropy, answer_of(batch)[:, 1:][learnt])


def entropy_of(table: Tensor, over: int) -> Tensor:
    """Entropy in nats of (N, V) log-probabilities, (N,); with `over` > 0 that of the likeliest so many, taken as a whole."""
    if over:
        table = table.topk(min(over, table.shape[-1]), -1).values.log_softmax(-1)
    return -(table.exp() * table).sum(-1)


def answer_of(batch: dict[str, Tensor]) -> Tensor:
    """(B, T): a number for each row of the data, also where several are packed into one sequence."""
    ids = batch["input_ids"]
    line = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    if "position_ids" not in batch:
        return line
    return line * ids.shape[1] + (batch["position_ids"] == 0).cumsum(1) - 1
