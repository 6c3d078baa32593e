"""What a merge may want to know of a whole tensor before it is given blocks of its rows: order statistics, and what adds up.

Mixed into the contract of merges (`methods/contracts.py`); the job answers (`jobs/merge.py`), and the answers come with the slot
(`materials/slot.py`).
"""

from collections.abc import Sequence

from torch import Tensor

from workbench.materials.slot import Slot, completed


class Foreknowing:
    """Wants nothing, until a merge says otherwise: `sizes` and `ranks` are asked first, then `totals`."""

    def across(self) -> bool:
        """Whether order statistics are wanted of all tensors of the model together instead of each alone."""
        return False

    def sizes(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        """Numbers ≥ 0 of this block, some lists of them, whose order statistics are wanted in `slot.cuts`; as many lists each time."""
        return []

    def ranks(self, counts: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Of each list the ranks that are wanted (1 is the largest), given how many numbers it has and how many of them are not 0."""
        return []

    def totals(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor | None:
        """Something of this block that adds up over the blocks, float64, wanted as `slot.totals`; may use `slot.cuts`."""
        return None

    def known(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Slot:
        """The slot with all that is wanted; where the job has not filled it in, the tensors at hand are the whole."""
        return completed(self, slot, base, tuned, weights)
