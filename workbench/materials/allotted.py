"""LoRAs whose rank differs from matrix to matrix, and how a number of ranks is shared out among matrices.

What it is: the attachment of the methods that find a rank for each matrix, and the sharing out. What it is not: how much a matrix deserves,
which is a method's (`methods/adapters/`).
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from workbench.materials.low_rank import LowRankAttachment, wrapped


class Allotted:
    """Mixed into the methods that learn the rank of each matrix, by the name of its module, and leave the rest to this module."""

    def attach(self: Any, model: PreTrainedModel, seed: int, learnt: Mapping[str, Tensor]) -> LowRankAttachment:
        """The scale is alpha / rank with the rank of the knobs, whatever rank a matrix got."""
        ranks = {name: int(rank) for name, rank in learnt.items()}
        scales = {name: self.alpha / self.rank * rank for name, rank in ranks.items()}
        return LowRankAttachment(wrapped(model, self, seed, target_modules=sorted(ranks), rank_pattern=ranks, alpha_pattern=scales))


def shared_out(total: int, scores: Mapping[str, float], most: Mapping[str, int]) -> dict[str, int]:
    """`total` among these in proportion to their scores, whole numbers, each 1 at least and `most` at most; what is above goes to the
    others. Rounded as in the allotment of seats by Sainte-Laguë. There must be room for all of it."""
    got = dict.fromkeys(scores, 1)
    queue = [(-score / 3, 1, name) for name, score in scores.items() if most[name] > 1]  # who is next, and with how many
    heapify(queue)
    for _ in range(total - len(got)):
        _, count, name = heappop(queue)
        got[name] = count + 1
        if got[name] < most[name]:
            heappush(queue, (-scores[name] / (2 * got[name] + 1), got[name], name))
    return got
