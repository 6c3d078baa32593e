"""Logistic regression with a penalty on the sum of the weights' sizes, which leaves most of them at 0 (Tibshirani 1996).

    min over w and b:  ‖w‖₁ + C Σ_i log(1 + exp(−s_i (x_i·w + b))),   s_i = ±1

The constant b is free, so the features may be centred without another result [D]; the steps are those of FISTA (Beck and Teboulle 2009),
begun anew where they lead uphill. What it is not: liblinear's, which holds b in a little [K]. Tags: [K] known, [D] derived.
"""

import torch
from torch import Tensor

STEPS = 5000
CLOSE = 1e-7  # of the aim, between two looks, below which it has arrived
LOOKS = 50  # steps between two looks


def sparse_logistic(features: Tensor, positive: Tensor, strength: float = 1.0) -> tuple[Tensor, float]:
    """(D,) float64 weights and the constant, from (N, D) features and (N,) whether a row is positive; `strength` is C."""
    middle = features.double().mean(0)
    x, sign = features.double() - middle, 2.0 * positive.double() - 1
    curve = strength / 4 * max(float(torch.linalg.eigvalsh(x @ x.T)[-1]), float(len(x)))  # the steepest the gradient changes
    weights, ahead = torch.zeros(x.shape[1] + 1, dtype=torch.float64), torch.zeros(x.shape[1] + 1, dtype=torch.float64)
    pace, best = 1.0, float("inf")
    for step in range(STEPS):
        pull = -strength * sign * torch.sigmoid(-sign * (x @ ahead[:-1] + ahead[-1]))
        after = ahead - torch.cat([x.T @ pull, pull.sum()[None]]) / curve
        after[:-1] = torch.nn.functional.softshrink(after[:-1], 1 / curve)
        if (ahead - after) @ (after - weights) > 0:
            pace = 1.0
        faster = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
        ahead, weights, pace = after + (pace - 1) / faster * (after - weights), after, faster
        if step % LOOKS == LOOKS - 1:
            now = aim(x, sign, weights, strength)
            if best - now < CLOSE * max(1.0, now):
                break
            best = now
    return weights[:-1], float(weights[-1] - middle @ weights[:-1])


def aim(x: Tensor, sign: Tensor, weights: Tensor, strength: float) -> float:
    """What is made small; the last weight is the constant."""
    margins = sign * (x @ weights[:-1] + weights[-1])
    return float(weights[:-1].abs().sum() + strength * torch.nn.functional.softplus(-margins).sum())


def area(scores: Tensor, positive: Tensor) -> float:
    """The area under the ROC curve: how often a positive row scores above a negative one; a tie counts a half."""
    above = scores[positive][:, None] - scores[~positive][None]
    return float((above > 0).double().mean() + 0.5 * (above == 0).double().mean())


def foretold(features: Tensor, positive: Tensor, folds: int = 5, strength: float = 1.0) -> Tensor:
    """(N,) the score of each row by a fit that has not seen it: of each kind of row every `folds`-th is left out together."""
    scores, place = torch.zeros(len(features), dtype=torch.float64), torch.zeros(len(features), dtype=torch.long)
    for kind in (positive, ~positive):
        place[kind] = torch.arange(int(kind.sum())) % folds
    for fold in range(folds):
        out = place == fold
        if out.any():
            weights, constant = sparse_logistic(features[~out], positive[~out], strength)
            scores[out] = features[out].double() @ weights + constant
    return scores
