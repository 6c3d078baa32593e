"""Spread of the logits' derivative along a step, streamed over the vocabulary so that no (N, V) tensor is ever held.

For hidden states h and their derivative ḣ along a step, z = h Wᵀ are the logits and a = ḣ Wᵀ + h Ẇᵀ their derivative.
Per token: max a − min a (what ρ_a = π / Δ_a needs), a at the likeliest token, log p of the likeliest token, and the mean and
variance of a under p (the predicted KL of the step is half that variance). arXiv:2603.13552; the streaming is ours.

Shapes: h, ḣ (N, D) · W, Ẇ (V, D) · every result (N,) float32, indices int64. Only the reference road exists so far.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 8192  # vocabulary rows a tile: 512 tokens × 8192 × 4 bytes × 2 = 32 MiB at most


@dataclass(frozen=True)
class Spread:
    """Per-token results, each (N,)."""

    highest: Tensor  # max a
    lowest: Tensor  # min a
    rises: Tensor  # token whose logit rises most
    falls: Tensor  # token whose logit falls most
    at_top: Tensor  # a of the likeliest token
    margin: Tensor  # δ = max(0, log p_top − log(1 − p_top))
    variance: Tensor  # Var_p(a)

    @property
    def width(self) -> Tensor:
        return self.highest - self.lowest


def reference(
    hidden: Tensor,
    hidden_dot: Tensor,
    weight: Tensor,
    weight_dot: Tensor | None = None,
    bias: Tensor | None = None,
    bias_dot: Tensor | None = None,
    softcap: float | None = None,
) -> Spread:
    """The specification, in plain torch: a first sweep finds the extremes and the top logit, a second the moments about it."""
    n = hidden.shape[0]
    highest, lowest = hidden.new_full((n,), -torch.inf), hidden.new_full((n,), torch.inf)
    rises, falls = torch.zeros(n, dtype=torch.long, device=hidden.device), torch.zeros(n, dtype=torch.long, device=hidden.device)
    top, at_top, likeliest = hidden.new_full((n,), -torch.inf), hidden.new_zeros(n), torch.zeros_like(rises)
    tiles = [slice(start, start + CHUNK) for start in range(0, weight.shape[0], CHUNK)]
    for tile in tiles:
        z, a = _tile(hidden, hidden_dot, weight, weight_dot, bias, bias_dot, softcap, tile)
        high, low, best = a.max(1), a.min(1), z.max(1)
        rises = torch.where(high.values > highest, high.indices + tile.start, rises)
        falls = torch.where(low.values < lowest, low.indices + tile.start, falls)
        at_top = torch.where(best.values > top, a.gather(1, best.indices[:, None])[:, 0], at_top)
        likeliest = torch.where(best.values > top, best.indices + tile.start, likeliest)
        highest, lowest, top = highest.maximum(high.values), lowest.minimum(low.values), top.maximum(best.values)
    rest, first, second = hidden.new_zeros(n), hidden.new_zeros(n), hidden.new_zeros(n)
    for tile in tiles:
        z, a = _tile(hidden, hidden_dot, weight, weight_dot, bias, bias_dot, softcap, tile)
        # The top token weighs 1 and has a − a_top = 0; leaving it out of the sums keeps precision where it is nearly certain.
        other = torch.arange(tile.start, tile.start + z.shape[1], device=z.device) != likeliest[:, None]
        p, a = (z - top[:, None]).exp() * other, a - at_top[:, None]
        rest, first, second = rest + p.sum(1), first + (p * a).sum(1), second + (p * a * a).sum(1)
    margin = (-rest.clamp_min(torch.finfo(torch.float32).tiny).log()).clamp_min(0)
    variance = (second / (1 + rest) - (first / (1 + rest)) ** 2).clamp_min(0)
    return Spread(highest, lowest, rises, falls, at_top, margin, variance)


def logit_spread(
    hidden: Tensor,
    hidden_dot: Tensor,
    weight: Tensor,
    weight_dot: Tensor | None = None,
    bias: Tensor | None = None,
    bias_dot: Tensor | None = None,
    softcap: float | None = None,
) -> Spread:
    """The spread of a = dz along the step for every token; see the module's docstring for shapes."""
    return reference(hidden, hidden_dot, weight, weight_dot, bias, bias_dot, softcap)


def _tile(
    hidden: Tensor, hidden_dot: Tensor, weight: Tensor, weight_dot: Tensor | None,
    bias: Tensor | None, bias_dot: Tensor | None, softcap: float | None, tile: slice,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """z and a, both (N, tile) float32, for one tile of the vocabulary."""
    w = weight[tile].float()
    z, a = hidden @ w.T, hidden_dot @ w.T
    if weight_dot is not None:
        a = a + hidden @ weight_dot[tile].float().T
    if bias is not None:
        z = z + bias[tile].float()
    if bias_dot is not None:
        a = a + bias_dot[tile].float()
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
        a = a * (1 - (z / softcap) ** 2)
    return z, a
