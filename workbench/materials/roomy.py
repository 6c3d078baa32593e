"""Keys and values of what was read, with room for what comes: a token more is written beside them, and what is there stays where it is.

The cache of transformers puts old and new together into a new tensor at every token, so that a text of N tokens is copied some N/2 times,
for every row of a batch. What it is not: a cache of fixed size, which would have to be masked; what is given out is only as long as what
was read.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 64  # tokens for which room is made at once


class Roomy(DynamicLayer):
    """One layer's keys and values (B, H, T, D), which begin a tensor with room behind them. Cropping and choosing rows are as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        pairs = ((self.keys, key_states), (self.values, value_states))
        (self.keys, one), (self.values, other) = (self._joined(*pair, place) for place, pair in enumerate(pairs))
        self.rooms = [one, other]
        return self.keys, self.values

    def _joined(self, held: Tensor, new: Tensor, place: int) -> tuple[Tensor, Tensor]:
        """What is held and what is new, one behind the other, and where they lie: where the held lies, if there is room for the new."""
        start = held.shape[-2] if held.numel() else 0
        stop = start + new.shape[-2]
        room = self.rooms[place] if self.rooms else None
        if room is None or room.data_ptr() != held.data_ptr() or room.shape[-2] < stop:
            room = new.new_empty(*new.shape[:-2], stop + ROOM, new.shape[-1])
            if start:
                room[..., :start, :] = held
        room[..., start:stop, :] = new
        return room[..., :stop, :], room


class RoomyCache(DynamicCache):
    """A cache of such layers, one for each that is met."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_class_to_replicate = Roomy
