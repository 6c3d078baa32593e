"""A number foretold from the words of a text: a straight line through examples, in buckets of words and pairs of words (`buckets.py`).

With c the counts of a text's n words and pairs in the buckets, f = c/√n, which is about as long for any text, the number is b + f·w. w is
found by ridge regression on the examples: squared errors and λ‖w‖² [K]. Of nine λ that one is taken with which an example is best foretold
from the others; for ridge regression this needs no second fit [K]. Knows no rows and no model. Tags as in the project's notes: [K] known,
[O] our own choice.
"""

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.events import Progress
from workbench.materials.buckets import summed, table

BUCKETS = 8192  # [O]
TRIED = tuple(10.0**power for power in range(-4, 5))  # λ, in mean squared lengths of f [O]


@dataclass(frozen=True)
class Line:
    """`weights` w by bucket, `base` b, and `sure`: the correlation of the examples' numbers with those foretold from all others."""

    weights: Tensor
    base: float
    sure: float

    def foretold(self, texts: Iterable[str], total: int) -> Generator[Progress, None, Tensor]:
        """(N,) float64 the numbers of `total` texts; NaN of one without words."""
        sums, counts = yield from summed(texts, total, self.weights)
        return self.base + sums / counts.sqrt()


def fitted(texts: Sequence[str], numbers: Tensor) -> Line:
    """The line through some hundred texts and their (N,) numbers; `sure` is NaN where they leave nothing to go by."""
    if len(texts) < 3:
        return Line(torch.zeros(BUCKETS, dtype=torch.float64), math.nan, math.nan)
    counts = table(texts, BUCKETS).double()
    shares = counts / counts.sum(1, keepdim=True).sqrt().clamp(min=1)
    middle, mean = shares.mean(0), numbers.double().mean()
    apart, off = shares - middle, numbers.double() - mean
    sizes, turned = torch.linalg.eigh(apart @ apart.T)
    sizes = sizes.clamp(min=0)
    along = turned.T @ off
    unit = float(sizes.mean())
    missed = dict[float, Tensor]()
    for tried in TRIED:
        kept = sizes / (sizes + tried * unit)
        own = 1 / len(numbers) + (turned**2) @ kept  # how far an example foretells itself
        missed[tried] = (off - turned @ (kept * along)) / (1 - own)  # what it is off by without itself
    chosen = min(missed, key=lambda tried: float(missed[tried].square().sum()))
    weights = apart.T @ (turned @ (along / (sizes + chosen * unit)))
    sure = torch.corrcoef(torch.stack([numbers.double(), numbers.double() - missed[chosen]]))[0, 1]
    return Line(weights, float(mean - middle @ weights), float(sure))
