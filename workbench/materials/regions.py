"""Parts of a weight: which of its entries may move, taken out as a few numbers and put back.

What it is: rows, columns, square blocks or single entries of a matrix [out, in] (or of a vector), each with the same four verbs. What it is
not: the choice of a part, which is a method's (`methods/adapters/`), or its training (`region.py`). Numbers keep the part's own shape, so
that an optimizer sees a matrix where the weight is one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Region(ABC):
    """Laws: `scatter(w, gather(w))` changes nothing; `gather` after `scatter(w, v)` gives v; what is not in `flat` is never touched."""

    index: Tensor  # int64, ascending; which rows, columns, blocks or entries

    @abstractmethod
    def gather(self, weight: Tensor) -> Tensor:
        """The numbers of the part, a copy of them."""

    @abstractmethod
    def scatter(self, weight: Tensor, values: Tensor) -> None:
        """Put such numbers back in their places; they are rounded to the weight's own format."""

    def flat(self, shape: torch.Size) -> Tensor:
        """The places of the numbers in the weight's own order of memory, in the order in which `gather` gives them."""
        places = torch.arange(shape.numel(), device=self.index.device).view(shape)
        return self.gather(places).flatten()

    def moved_to(self, index: Tensor) -> "Region":
        """The same kind of part elsewhere."""
        return type(self)(index)


class Rows(Region):
    """Whole rows: what some outputs are made of."""

    def gather(self, weight: Tensor) -> Tensor:
        return weight[self.index]

    def scatter(self, weight: Tensor, values: Tensor) -> None:
        weight[self.index] = values.to(weight.dtype)


class Columns(Region):
    """Whole columns: what is made of some inputs."""

    def gather(self, weight: Tensor) -> Tensor:
        return weight[:, self.index]

    def scatter(self, weight: Tensor, values: Tensor) -> None:
        weight[:, self.index] = values.to(weight.dtype)


class Elements(Region):
    """Single entries by their places in the flattened weight."""

    def gather(self, weight: Tensor) -> Tensor:
        found = weight.reshape(-1)[self.index]
        return found if weight.ndim < 2 else found[None]

    def scatter(self, weight: Tensor, values: Tensor) -> None:
        weight.view(-1)[self.index] = values.flatten().to(weight.dtype)

    def flat(self, shape: torch.Size) -> Tensor:
        return self.index


@dataclass(frozen=True, eq=False)
class Blocks(Region):
    """Square blocks of a matrix whose sides they divide; `index` counts them row of blocks by row of blocks."""

    size: int = 1

    def gather(self, weight: Tensor) -> Tensor:
        return self._blocks(weight)[self._places(weight)].flatten(1)

    def scatter(self, weight: Tensor, values: Tensor) -> None:
        self._blocks(weight)[self._places(weight)] = values.view(-1, self.size, self.size).to(weight.dtype)

    def moved_to(self, index: Tensor) -> "Blocks":
        return Blocks(index, self.size)

    def _blocks(self, weight: Tensor) -> Tensor:
        """(rows of blocks, columns of blocks, size, size), a view."""
        return weight.unflatten(1, (-1, self.size)).unflatten(0, (-1, self.size)).transpose(1, 2)

    def _places(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        across = weight.shape[1] // self.size
        return self.index // across, self.index % across


def carried(values: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """Numbers that stood at the flat places `before`, for the places `now`: the same number where a place is in both, else 0.

    The shape is that of `now` in one dimension.
    """
    order = before.argsort()
    held, places = before[order], torch.searchsorted(before[order], now).clamp(max=max(0, len(before) - 1))
    if not len(before):
        return torch.zeros(len(now), dtype=values.dtype, device=values.device)
    return torch.where(held[places] == now, values.flatten()[order[places]], 0)
