"""A weighted sum of tensors, rounded once. What it is not: the shares, which are a merge's business (`methods/merges/`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

PIECE = 1 << 15  # numbers that are summed in one go: few enough that their float64 stays in a core's own cache


def weighted_sum(parts: Sequence[Tensor], shares: Sequence[float], over: float = 1.0) -> Tensor:
    """Σ sᵢ·xᵢ / over of one tensor or more, float32 of one shape; the sum is float64, so a mean of equal tensors gives them back."""
    flat = [part.reshape(-1) for part in parts]
    found = torch.empty_like(flat[0])
    piece = PIECE if found.device.type == "cpu" else max(1, found.numel())  # a GPU has no such cache, and starts each operation slowly
    room = found.new_empty(2, min(piece, found.numel()), dtype=torch.float64)
    for into, first, *others in zip(*(tensor.split(piece) for tensor in (found, *flat)), strict=True):
        total, term = room[:, : into.numel()]
        total.copy_(first).mul_(shares[0])
        for other, share in zip(others, shares[1:], strict=True):
            total.add_(term.copy_(other), alpha=share)
        into.copy_(total if over == 1 else total.div_(over))
    return found.view(parts[0].shape)
