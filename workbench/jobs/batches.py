"""The order in which a run sees its rows: endless, shuffled anew each epoch, and a function of the seed and the step alone.

So a resumed run needs no saved position: step 51 after a crash draws what step 51 would have drawn. Knows no model.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.spec import TrainSpec
from workbench.materials.packing import pack, packed, pad
from workbench.materials.templates import Encoded

POOL = 50  # batches among whose rows those of like length are sought; small enough that an epoch stays shuffled


@dataclass(frozen=True)
class Batches:
    """The training rows as units (a row, or a pack of rows) and how many make a forward pass and a step."""

    rows: list[Encoded]
    units: list[list[int]]  # indices into rows
    spec: TrainSpec
    pad_id: int

    @classmethod
    def of(cls, rows: list[Encoded], spec: TrainSpec, pad_id: int) -> "Batches":
        units = pack(rows, spec.data.max_length) if spec.packing else [[index] for index in range(len(rows))]
        return cls(rows, units, spec, pad_id)

    @property
    def units_per_step(self) -> int:
        return self.spec.batch_size * self.spec.accumulate

    @property
    def steps_per_epoch(self) -> float:
        return len(self.units) / self.units_per_step

    def window(self, step: int) -> list[dict[str, Tensor]]:
        """The forward passes of optimizer step `step` (from 1), each a batch of (B, T) tensors.

        `rows` among them says which row each token belongs to (−1 for what fills up).
        """
        first = (step - 1) * self.units_per_step
        chosen = [self.units[self._unit(position)] for position in range(first, first + self.units_per_step)]
        size = self.spec.batch_size
        return [self._batch(chosen[start : start + size]) for start in range(0, len(chosen), size)]

    def _unit(self, position: int) -> int:
        epoch, index = divmod(position, len(self.units))
        return self._order(epoch)[index]

    def _order(self, epoch: int) -> list[int]:
        lengths = tuple(sum(len(self.rows[index].ids) for index in unit) for unit in self.units) if self.spec.group_by_length else ()
        return _order(len(self.units), self.spec.seed, epoch, lengths, self.spec.batch_size)

    def _batch(self, units: list[list[int]]) -> dict[str, Tensor]:
        batch = packed(self.rows, units) if self.spec.packing else pad([self.rows[index] for (index,) in units], self.pad_id)
        return batch | {"rows": self._rows(units, batch["input_ids"].shape[1])}

    def _rows(self, units: list[list[int]], width: int) -> Tensor:
        """(B, T) the row that each token belongs to, −1 for what fills up."""
        lines = [[index for index in unit for _ in self.rows[index].ids] for unit in units]
        return torch.tensor([line + [-1] * (width - len(line)) for line in lines])


@functools.lru_cache(maxsize=4)
def _order(units: int, seed: int, epoch: int, lengths: tuple[int, ...], size: int) -> list[int]:
    """A permutation; with `lengths`, rows of like length stand together in batches, and the batches in any order."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(units, generator=generator).tolist()
    if not lengths:
        return order
    batches: list[list[int]] = []
    for start in range(0, units, POOL * size):
        pool = sorted(order[start : start + POOL * size], key=lambda unit: -lengths[unit])
        batches += [pool[first : first + size] for first in range(0, len(pool), size)]
    whole, rest = [batch for batch in batches if len(batch) == size], [batch for batch in batches if len(batch) < size]
    shuffled = [whole[place] for place in torch.randperm(len(whole), generator=generator).tolist()]
    return [unit for batch in [*shuffled, *rest] for unit in batch]


def in_batches(rows: list[Encoded], size: int, pad_id: int) -> Iterator[dict[str, Tensor]]:
    """Rows in order, padded; for evaluation. Sorted by length, so that little is padding."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    for start in range(0, len(ordered), size):
        yield pad(ordered[start : start + size], pad_id)
