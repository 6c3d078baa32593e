"""The order in which a run sees its rows: endless, shuffled anew each epoch, and a function of the seed and the step alone.

So a resumed run needs no saved position: step 51 after a crash draws what step 51 would have drawn. Knows no model.
An epoch takes every row once, or of each of several `Draw`s as many as it says.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from workbench.core.spec import TrainSpec
from workbench.materials.packing import pack, packed, pad
from workbench.materials.templates import Encoded

POOL = 50  # batches among whose rows those of like length are sought; small enough that an epoch stays shuffled
Turn = tuple[int, int, int]  # whole numbers, because what is remembered by them asks often


@dataclass(frozen=True)
class Draw:
    """Rows that are drawn together: an epoch takes `often` of them on average, and none comes a second time before each had its turn."""

    rows: list[int]
    often: Fraction


@dataclass(frozen=True)
class Batches:
    """The training rows as units (a row, or a pack of rows) and how many make a forward pass and a step.

    `turns`: of each draw how many units it has, which stand together, and how many of them an epoch takes (a fraction); none where it
    takes all.
    """

    rows: list[Encoded]
    units: list[list[int]]  # indices into rows
    spec: TrainSpec
    pad_id: int
    turns: tuple[Turn, ...] = ()

    @classmethod
    def of(cls, rows: list[Encoded], spec: TrainSpec, pad_id: int, draws: Sequence[Draw] = ()) -> "Batches":
        """A pack holds rows of one draw, and packs are drawn so that its rows come as often as they should."""
        units, turns = list[list[int]](), list[Turn]()
        for draw in draws or [Draw([*range(len(rows))], Fraction(len(rows)))]:
            own = [rows[row] for row in draw.rows]
            together = pack(own, spec.data.max_length) if spec.packing else [[place] for place in range(len(own))]
            units += [[draw.rows[place] for place in unit] for unit in together]
            turns.append((len(together), *(draw.often * len(together) / max(1, len(own))).as_integer_ratio()))
        return cls(rows, units, spec, pad_id, tuple(turns) if draws else ())

    @property
    def units_per_epoch(self) -> float:
        return sum(often / of for _, often, of in self.turns) if self.turns else len(self.units)

    @property
    def units_per_step(self) -> int:
        return self.spec.batch_size * self.spec.accumulate

    @property
    def steps_per_epoch(self) -> float:
        return self.units_per_epoch / self.units_per_step

    def window(self, step: int) -> list[dict[str, Tensor]]:
        """The forward passes of optimizer step `step` (from 1), each a batch of (B, T) tensors.

        `rows` among them says which row each token belongs to (−1 for what fills up).
        """
        first = (step - 1) * self.units_per_step
        chosen = [self.units[self._unit(position)] for position in range(first, first + self.units_per_step)]
        size = self.spec.batch_size
        return [self._batch(chosen[start : start + size]) for start in range(0, len(chosen), size)]

    def _unit(self, position: int) -> int:
        if not self.turns:
            epoch, index = divmod(position, len(self.units))
            return self._order(epoch, range(len(self.units)))[index]
        epoch = int(position / self.units_per_epoch)  # about: a draw is not whole
        while _begins(self.turns, epoch) > position:
            epoch -= 1
        while _begins(self.turns, epoch + 1) <= position:
            epoch += 1
        drawn = _drawn(self.turns, self.spec.seed, epoch)
        return drawn[self._order(epoch, drawn)[position - _begins(self.turns, epoch)]]

    def _order(self, epoch: int, drawn: Sequence[int]) -> list[int]:
        lengths = tuple(sum(len(self.rows[index].ids) for index in self.units[unit]) for unit in drawn) if self.spec.group_by_length else ()
        return _order(len(drawn), self.spec.seed, epoch, lengths, self.spec.batch_size)

    def _batch(self, units: list[list[int]]) -> dict[str, Tensor]:
        batch = packed(self.rows, units) if self.spec.packing else pad([self.rows[index] for (index,) in units], self.pad_id)
        return batch | {"rows": self._rows(units, batch["input_ids"].shape[1])}

    def _rows(self, units: list[list[int]], width: int) -> Tensor:
        """(B, T) the row that each token belongs to, −1 for what fills up."""
        lines = [[index for index in unit for _ in self.rows[index].ids] for unit in units]
        return torch.tensor([line + [-1] * (width - len(line)) for line in lines])


def _taken(turn: Turn, epochs: int) -> int:
    """How many units of a draw so many epochs take, to the nearest one."""
    _, often, of = turn
    return (2 * epochs * often + of) // (2 * of)


@functools.lru_cache(maxsize=64)
def _begins(turns: tuple[Turn, ...], epoch: int) -> int:
    """The position at which an epoch begins."""
    return sum(_taken(turn, epoch) for turn in turns)


@functools.lru_cache(maxsize=4)
def _drawn(turns: tuple[Turn, ...], seed: int, epoch: int) -> list[int]:
    """The units of an epoch: of each draw the next ones of an endless row of passes, each pass in an order of its own."""
    drawn, start = list[int](), 0
    for place, turn in enumerate(turns):
        units, first, last = turn[0], _taken(turn, epoch), _taken(turn, epoch + 1)
        for time in range(first // units, -(-last // units)):
            generator = torch.Generator().manual_seed(((seed * 1_000_003 + place) * 1_000_003 + time) % (1 << 63))
            order = torch.randperm(units, generator=generator).tolist()
            drawn += [start + unit for unit in order[max(0, first - time * units) : last - time * units]]
        start += units
    return drawn


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


def in_batches(rows: list[Encoded], size: int, pad_id: int, tasks: Sequence[int] = ()) -> Iterator[dict[str, Tensor]]:
    """Rows in order, padded; for evaluation. Sorted by length, so that little is padding. `tasks` of the rows, if they are known."""
    ordered = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    for start in range(0, len(ordered), size):
        chosen = ordered[start : start + size]
        known = {"tasks": torch.tensor([[tasks[place]] for place in chosen])} if tasks else {}
        yield pad([rows[place] for place in chosen], pad_id) | known
