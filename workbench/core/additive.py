"""How a merge tells that it only adds the models' changes up; a sum of low-rank changes is then known exactly from their factors.

What it is not: the sum (`materials/factors.py`), or the merge of a tensor (`methods/merges/`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class Additive(ABC):
    """Mixed into every merge whose merged change is Σ sᵢτᵢ, with one number sᵢ for each model and tensor: θ = θ₀ + Σ sᵢτᵢ.

    What explains such a merge (`Merge.explain`) follows from `slot` and the weights alone, so it is asked once for a tensor.
    """

    def adds(self) -> bool:
        """Whether it is so with these knobs too."""
        return True

    def by_angles(self) -> bool:
        """Whether the shares follow from the tensor's inner products, which are then wanted in full precision."""
        return False

    @abstractmethod
    def shares(self, slot: Any, weights: Sequence[float]) -> list[float]:
        """The sᵢ of the tensor `slot` (`materials/slot.py`), which knows its `gram`."""
