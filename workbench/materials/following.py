"""Instruction-following difficulty: how much a question helps with its answer, from what the answer costs with it and without it.

Both published forms. What it is not: a reading (`around.py`) or a choice of rows. Tags as in the project's notes: [R] read in published
code, [O] our own choice.
"""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

Ratio = Literal["perplexities", "losses"]


def difficulty(asked: Tensor, alone: Tensor, ratio: Ratio) -> list[float]:
    """N numbers from the (N, 2) surprise of answers after their questions and alone: nats, added up, and tokens.

    With s the mean surprise: exp(s asked − s alone) [R: Superfiltering], or s asked / s alone [R: Cherry LLM]. Both lie below 1 exactly
    where the question helps. NaN where nothing is learnt, and where the two readings end more than one token apart, because then one of
    them was cut off and they are not of the same tokens [O]; one, because alone the first token of a plain text has none before it.
    """
    return [_one(*row, ratio) for row in zip(asked.tolist(), alone.tolist(), strict=True)]


def _one(asked: Sequence[float], alone: Sequence[float], ratio: Ratio) -> float:
    (cost, learnt), (plain, without) = asked, alone
    if not learnt or not without or abs(learnt - without) > 1 or not math.isfinite(cost - plain):
        return math.nan
    after, before = cost / learnt, plain / without
    if ratio == "losses":
        return after / before if before else math.nan
    return math.exp(min(700.0, after - before))
