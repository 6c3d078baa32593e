"""Which tensors to train for the largest worth within a budget of backward work: a knapsack in which depth costs too.

The tensors stand in the order in which the backward pass meets them, the output's first. To train tensor k costs `own[k]`, and the error
must have passed all tensors before it, which costs `passing` of each, once, however many are trained:

    maximise Σ worth over S   with   Σ own over S + Σ passing before the deepest of S ≤ budget

What it is not: what the costs are (`methods/adapters/greentrainer.py`).
"""

import math
from collections.abc import Sequence

import torch

UNITS = 20_000  # into how many the budget is cut at most, where the costs have no larger common measure


def chosen(worth: Sequence[float], own: Sequence[int], passing: Sequence[int], budget: int) -> list[int]:
    """The places of the best tensors, by dynamic programming; exact where the costs are multiples of budget / `UNITS`, else costs are
    rounded up, and the budget is kept. Nothing is chosen that is worth nothing."""
    unit = max(math.gcd(*own, *passing), -(-budget // UNITS), 1)
    costs, room = [-(-cost // unit) for cost in own], budget // unit
    best = torch.full((room + 1,), -torch.inf, dtype=torch.float64, device="cpu")  # most worth for own costs of just so much
    best[0] = 0
    taken = torch.zeros(len(costs), room + 1, dtype=torch.bool, device="cpu")
    found, deepest, spent, passed = 0.0, -1, 0, 0
    for place, (value, cost) in enumerate(zip(worth, costs, strict=True)):
        left = room - -(-passed // unit) - cost
        passed += passing[place]
        if cost > room:
            continue
        if left >= 0 and float(best[: left + 1].max()) + value > found:
            spent = int(best[: left + 1].argmax())
            found, deepest = float(best[spent]) + value, place
        better = torch.full_like(best, -torch.inf)
        better[cost:] = best[: room + 1 - cost] + value
        taken[place] = better > best
        best = torch.maximum(best, better)
    return sorted(_traced(taken, costs, deepest, spent))


def _traced(taken: torch.Tensor, costs: list[int], deepest: int, spent: int) -> list[int]:
    """Back from the deepest: which tensors before it make up the best worth for what they cost."""
    places = [deepest] if deepest >= 0 else []
    for place in reversed(range(deepest)):
        if taken[place, spent]:
            places.append(place)
            spent -= costs[place]
    return places
