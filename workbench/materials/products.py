"""The large matrix products of a merge of whole models, which may be taken elsewhere than where the matrices lie.

What it is not: where that is, which the job knows (`jobs/roads.py`).
"""

from collections.abc import Callable

from torch import Tensor

AddProduct = Callable[[str, Tensor, Tensor, Tensor, float], None]
"""`add(block, into, left, right, factor)`: into += factor · left · right, of matrices in main memory; `block` is what it is for."""
AddHere = Callable[[Tensor, Tensor, Tensor, float], None]
"""The same for one block."""


def added_here(block: str, into: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
    into.addmm_(left, right, alpha=factor)
