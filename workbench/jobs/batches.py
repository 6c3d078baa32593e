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
        """The forward passes of optimizer step `step` (from 1), each a batch of (B, T) tensors."""
        first = (step - 1) * self.units_per_step
        chosen = [self.units[self._unit(position)] for position in range(first, first + self.units_per_step)]
        size = self.spec.batch_size
        return [self._batch(chosen[start : start + size]) for start in range(0, len(chosen), size)]

    def _unit(self, position: int) -> int:
        epoch, index = divmod(position, len(self.units))
        return _order(len(self.units), self.spec.seed, epoch)[index]

    def _batch(self, units: list[list[int]]) -> dict[str, Tensor]:
        if self.spec.packing:
            return packed(self.rows, units)
        return pad([self.rows[index] for unit in units for index in unit], self.pad_id)


@functools.lru_cache(maxsize=4)
def _order(units: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(units, generator=generator).tolist()


def in_batches(rows: list[Encoded], size: int, pad_id: int) -> Iterator[dict[str, Tensor]]:
    """Rows in order, padded; for evaluation. Sorted by length, so that little is padding."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    for start in range(0, len(ordered), size):
        yield pad(ordered[start : start + size], pad_id)
