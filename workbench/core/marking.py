"""Whether an answer is right, and whether one model is right more often than another by more than chance: functions of texts and counts.

What it is not: how likely a model found the right answer, which is its loss (`jobs/scoring.py`), or a judge that reads.
"""

import math
import re
from typing import Literal

from workbench.core.errors import WorkbenchError

Scorer = Literal["exact match", "contains", "matches"]


def right(scorer: Scorer, wanted: str, answer: str, taken: re.Pattern[str] | None = None) -> bool:
    """Whether `answer` says what is `wanted`: the same but for case and spaces, with it somewhere in it, or found by it as a pattern.

    `taken` finds the part of an answer that counts, and of what is wanted where it is found there; an answer without it is wrong.
    """
    if taken is not None:
        found, wanted = part(taken, answer), part(taken, wanted) or wanted
        if found is None:
            return False
        answer = found
    if scorer == "matches":
        return re.search(wanted, answer) is not None
    one, other = plain(wanted), plain(answer)
    return one == other if scorer == "exact match" else bool(one) and one in other


def part(taken: re.Pattern[str], text: str) -> str | None:
    """The last place where the pattern is found, its first group if it has one: what an answer comes to stands at its end."""
    found = list(taken.finditer(text))
    return (found[-1][1] if taken.groups else found[-1][0]) if found else None


def plain(text: str) -> str:
    """Without case, and with single spaces."""
    return " ".join(text.casefold().split())


def compiled(pattern: str, where: str) -> re.Pattern[str]:
    """The pattern, or a sentence that says what is wrong with it."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise WorkbenchError(f"{where} {pattern!r} is no regular expression: {error}. Mend it, or leave it empty.") from error


def by_chance(one: int, other: int) -> float:
    """McNemar's exact test: how likely such a difference is, or a larger one, between two models that are equally good.

    one, other: the questions that only the one and only the other answered rightly; those that both did or neither did tell nothing.
    """
    count, fewer = one + other, min(one, other)
    return min(1.0, 2 * sum(math.comb(count, lost) for lost in range(fewer + 1)) / 2**count)
