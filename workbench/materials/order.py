"""Order statistics of numbers that come in blocks: exact, whatever their number, in memory that does not grow with it.

The bits of a non-negative float32, read as an integer, are in the order of the numbers. A first look counts their upper halves, which
tells the bin that holds each wanted number; a second counts the lower halves inside those bins, which tells the number. Equal
numbers are one value here; who is kept among them is the caller's business.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

HALF = 1 << 16  # lower halves that there are
UPPER = 1 << 15  # upper halves of numbers that are not negative


class Ranking:
    """`see` every block, `want` ranks, `look` at every block again, then `found`. Rank 1 is the largest number."""

    def __init__(self) -> None:
        self._upper = torch.zeros(UPPER, dtype=torch.int64)
        self._wanted: list[tuple[int, int]] = []  # of each rank the bin, and the rank within it
        self._lower: dict[int, Tensor] = {}
        self.count = self.zeros = 0

    def see(self, numbers: Tensor) -> None:
        """Count (…) float32 numbers on any device, none of them negative or NaN."""
        bits = _bits(numbers)
        self._upper += torch.bincount(bits >> 16, minlength=UPPER).cpu()
        self.count += bits.numel()
        self.zeros += int((bits == 0).sum())

    def want(self, ranks: Sequence[int]) -> None:
        """Ranks from 1 to the count, in the order in which `found` is to give their numbers; others are taken to the nearest of these."""
        above = self._upper.flip(0).cumsum(0)  # how many lie in the bins from the highest down to this one
        for rank in ranks:
            rank = min(max(rank, 1), self.count)
            place = int(torch.searchsorted(above, rank))
            before = int(above[place - 1]) if place else 0
            self._wanted.append((UPPER - 1 - place, rank - before))
        self._lower = {number: torch.zeros(HALF, dtype=torch.int64) for number, _ in self._wanted}

    def look(self, numbers: Tensor) -> None:
        """Count inside the wanted bins; the same numbers as `see` was given, in any order."""
        bits = _bits(numbers)
        upper = bits >> 16
        for number, counts in self._lower.items():
            inside = (bits[upper == number] & (HALF - 1)).cpu()
            counts.index_add_(0, inside.long(), torch.ones_like(inside, dtype=torch.int64))  # few, so no counting of all halves

    def found(self) -> tuple[float, ...]:
        """The wanted numbers; nothing where there were none to rank."""
        return tuple(self._number(number, rank) for number, rank in self._wanted) if self.count else ()

    def _number(self, number: int, rank: int) -> float:
        above = self._lower[number].flip(0).cumsum(0)
        bits = (number << 16) | (HALF - 1 - int(torch.searchsorted(above, rank)))
        return torch.tensor(bits, dtype=torch.int32).view(torch.float32).item()


def _bits(numbers: Tensor) -> Tensor:
    return (numbers + 0.0).contiguous().view(torch.int32).flatten()  # −0 becomes 0
