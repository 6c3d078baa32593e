"""One tensor among those that are merged, and what is known of it before a block of its rows is.

What it is not: the tensor (`materials/tensors.py`), or what becomes of it (`methods/merges/`).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Slot:
    """One tensor of the models being merged and where it sits: depth 0 is the first block, 1 the last, None outside the blocks.

    `gram` is the (1 + M, 1 + M) float64 `materials.tensors.task_gram` of the whole tensor; the job gives it because the verbs may see
    only some rows of a large tensor. Without it the tensors at hand are the whole.
    """

    name: str
    depth: float | None
    layer: int | None
    layers: int
    gram: Tensor | None = None
