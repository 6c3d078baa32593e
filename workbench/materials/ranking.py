"""From a number for each row to the rows that stay: the best ones, up to a share of all; equals in the order of the rows.

What it is not: a method. Every selector that ranks uses it, so that one picture and one line serve them all.
"""

import math
from collections.abc import Sequence

from workbench.core.words import number
from workbench.materials.rows import Selection


def best(scores: Sequence[float], share: float, what: str, lowest: bool = False) -> Selection:
    """The `share` of the N rows with the highest (or lowest) scores, one at least; `what` the scores are, in words.

    A row without a score (NaN) never stays. The line lies half-way between the last row that stays and
    the first that goes.
    """
    sign = 1 if lowest else -1
    scored = [row for row, score in enumerate(scores) if not math.isnan(score)]
    order = sorted(scored, key=lambda row: (sign * scores[row], row))
    count = budget(share, len(scores))
    stays, goes = order[:count], order[count:]
    line = (scores[stays[-1]] + scores[goes[0]]) / 2 if stays and goes else math.nan
    side = "lowest" if lowest else "highest"
    reasons = {row: f"{what}: {number(scores[row])}; the {len(stays):,} {side} stay" for row in goes}
    kept = [False] * len(scores)
    for row in stays:
        kept[row] = True
    reasons |= {row: f"{what}: there is none" for row, score in enumerate(scores) if math.isnan(score)}
    return Selection(kept, reasons, scores, (line,) if math.isfinite(line) else (), what)


def budget(share: float, count: int) -> int:
    """How many of `count` rows a share of them is: to the nearest one, and one at least where there are any."""
    return min(count, max(1, math.floor(share * count + 0.5)))
