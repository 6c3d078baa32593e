"""Where the arithmetic of a merge is done: on the CPU, or on a GPU where there is one and it is worth the way.

The road over a GPU takes the blocks as they stand in the files, so 16-bit weights travel as 16 bits. There they become float32, are
merged and rounded, and what is written comes back. The threads that merge tensors side by side (`jobs/crew.py`) make it overlap: while
one waits for its copy, others read, write and compute. Copies are the plain ones, which wait until they are done: the next block is read
into the same memory. A few blocks for each thread are all that lies on the GPU, however large the model; with a dense change that
becomes an adapter, the change of one matrix.

Which merges take it, if nobody says: all but those that only add the models up [O]. These touch each number once, so they wait for
the disk and the copies, and a GPU has nothing to save. All others read a tensor twice or more: for its inner products (angles and arcs),
its order statistics (whoever trims), or its rows' ranks; and a dense change that becomes an adapter costs products with it. Merges of
whole models have their large products there. What is small is worked out on the CPU on both roads: what follows from the inner products
of M models, the assignment of units after their distances, matrices as small as ranks.

Random numbers are drawn on the CPU on both roads: what is dropped belongs to the seed and the place and to no device. Sums are taken in
another order on a GPU, so the result is the CPU's to the rounding of float32, not always to the bit.

What it is not: a choice among GPUs (torch's own is taken), or where models run that speak (`materials/precision.py`). Knows no merge by
name. Nothing here was timed on a GPU. Tags: [O] our own choice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.events import Noted
from workbench.core.spec import MergeSpec
from workbench.materials.products import added_here
from workbench.methods.contracts import Merge

T = TypeVar("T")
Piece = Callable[[torch.device], tuple[Tensor, list[Tensor]]]
"""The same rows of the base and of every tuned model that takes part, float32, on the device that it is given."""
CPU = torch.device("cpu")
TIMES = 8  # as many numbers in a block on a GPU as on a CPU: enough to outlast the start of an operation, and 8 MB a model
THREADS = 4  # on a GPU: one reads, one copies, one computes and one writes; more would only hold more of its memory
PRODUCT = 1 << 24  # numbers of a product that are there at once
_NO_ROOM = ("CUDA error: out of memory", "ALLOC_FAILED")  # how libraries beside torch's own allocator say it


@dataclass
class Road:
    """One merge's road: `device`, and the tensors (or blocks of a model) that found no room there and were merged on the CPU."""

    device: torch.device = CPU
    turned_away: dict[str, None] = field(default_factory=dict)

    @property
    def times(self) -> int:
        """How many times the CPU's numbers a block has."""
        return 1 if self.device == CPU else TIMES

    @property
    def threads(self) -> int | None:
        return None if self.device == CPU else THREADS

    def leads_away(self, name: str) -> bool:
        """Whether this tensor goes to the device."""
        return self.device != CPU and name not in self.turned_away

    def turn_away(self, names: Sequence[str]) -> None:
        self.turned_away.update(dict.fromkeys(names))

    def do(self, name: str, work: Callable[[torch.device], T]) -> T:
        """What `work` makes on the device that it is given: ours, or the CPU if this tensor finds no room there, now or before."""
        if self.leads_away(name):
            try:
                return work(self.device)
            except RuntimeError as error:
                if not no_room(error):
                    raise
            self.turn_away([name])  # behind the `except`: the error holds on to all that was made
        return work(CPU)

    def add_product(self, block: str, into: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
        """See `materials/products.py`. On a device some rows at a time, each of which is either added there or here."""
        if not self.leads_away(block):
            return added_here(block, into, left, right, factor)
        step = max(1, PRODUCT // max(1, into.shape[1]))
        for rows, part in zip(into.split(step), left.split(step), strict=True):
            there = self.do(block, partial(_product, part, right))
            added_here(block, rows, part, right, factor) if there is None else rows.add_(there, alpha=factor)

    def notes(self) -> Iterator[Noted]:
        """A word about what was meant for the device and did not fit."""
        if self.turned_away:
            first, *others = self.turned_away
            names = f"{first} and {len(others)} more" if others else first
            yield Noted(f"The GPU had no room for {names}: merged on the CPU, which takes longer. Nothing else is different.", "watch")


def _product(left: Tensor, right: Tensor, device: torch.device) -> Tensor | None:
    """left · right, computed on the device; nothing where that is the CPU, which adds a product up on the spot."""
    return None if device == CPU else (left.to(device) @ right.to(device)).cpu()


def gpu() -> torch.device | None:
    return torch.device("cuda") if torch.cuda.is_available() else None


def no_gpu(spec: MergeSpec) -> list[str]:
    """Why the device that a spec names cannot be had, a sentence; nothing where it can."""
    if spec.device != "cuda" or gpu() is not None:
        return []
    return ["device is cuda, and torch finds no GPU here. Set device to auto or cpu, or install the GPU's driver and a torch with CUDA."]


def road_of(spec: MergeSpec) -> Road:
    """The road of a merge; whether the device it names is there was asked before. What works on factors alone has nothing to send."""
    method = spec.merge
    light = isinstance(method, Additive) and method.adds() and not method.by_angles()
    small = spec.save == "adapter" and (spec.of == "factors" or cast(Merge, method).factored)
    if spec.device == "cpu" or (spec.device == "auto" and light) or small:
        return Road()
    return Road(gpu() or CPU)


def no_room(error: RuntimeError) -> bool:
    """Whether it says that the device's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_ROOM)
