"""From a number for each row to the rows that stay: the best ones, up to a share of all; equals in the order of the rows.

What it is not: a method. Every selector that ranks uses it, so that one picture and one line serve them all.
"""

import math
from collections.abc import Sequence

import torch

from workbench.core.words import number
from workbench.materials.rows import Selection


def best(scores: Sequence[float], share: float, what: str, lowest: bool = False) -> Selection:
    """The `share` of the N rows with the highest (or lowest) scores, one at least; `what` the scores are, in words.

    A row without a score (NaN) never stays. The line lies half-way between the last row that stays and
    the first that goes.
    """
    values, count = torch.tensor(scores, dtype=torch.float64), budget(share, len(scores))
    there = (~values.isnan()).nonzero()[:, 0]
    order = there[values[there].argsort(descending=not lowest, stable=True)]
    stays, goes = order[:count], order[count:]
    line = float(values[stays[-1]] + values[goes[0]]) / 2 if len(stays) and len(goes) else math.nan
    kept = torch.zeros(len(values), dtype=torch.bool)
    kept[stays] = True
    of = f"the {len(stays):,} {'lowest' if lowest else 'highest'} stay"
    reasons = {row: f"{what}: {number(scores[row])}; {of}" for row in goes.tolist()}
    reasons |= dict.fromkeys(values.isnan().nonzero()[:, 0].tolist(), f"{what}: there is none")
    return Selection(kept.tolist(), reasons, scores, (line,) if math.isfinite(line) else (), what)


def budget(share: float, count: int) -> int:
    """How many of `count` rows a share of them is: to the nearest one, and one at least where there are any."""
    return min(count, max(1, math.floor(share * count + 0.5)))
