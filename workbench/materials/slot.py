"""One tensor among those that are merged, and what is known of the whole of it before a block of its rows is merged.

What it is not: the tensor (`materials/tensors.py`), or what becomes of it (`methods/merges/`).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor

from workbench.core.job import drain
from workbench.materials.order import Ranking
from workbench.materials.tensors import task_gram


@dataclass(frozen=True)
class Slot:
    """One tensor of the models being merged and where it sits: depth 0 is the first block, 1 the last, None outside the blocks.

    `first` is the row that the block at hand begins with. The rest is known of the whole tensor, because the verbs may see only some
    rows of a large one: `gram`, the (1 + M, 1 + M) float64 `materials.tensors.task_gram`; `cuts`, the order statistics that the method
    asked for; `totals`, the sum of what it added up. They lie in main memory, wherever the tensors do, and with what follows from them,
    which is small. Without them the tensors at hand are the whole (`Merge.known`).
    """

    name: str
    depth: float | None
    layer: int | None
    layers: int
    first: int = 0
    gram: Tensor | None = None
    cuts: tuple[tuple[float, ...], ...] | None = None
    totals: Tensor | None = None


def completed(method: Any, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Slot:
    """`slot` with what the merge `method` wants to know, taken from whole tensors; what it holds already stays."""
    if slot.gram is None:
        slot = replace(slot, gram=task_gram(base, tuned))
    if slot.cuts is None:
        slot = replace(slot, cuts=cuts_of(method, lambda: iter([method.sizes(slot, base, tuned, weights)])))
    if slot.totals is None:
        totals = method.totals(slot, base, tuned, weights)
        slot = replace(slot, totals=None if totals is None else totals.cpu())
    return slot


def cuts_of(method: Any, sizes: Callable[[], Iterator[Sequence[Tensor]]]) -> tuple[tuple[float, ...], ...]:
    """As `ranked`, without the breaths."""
    return cast(tuple[tuple[float, ...], ...], drain(ranked(method, sizes)))


def ranked(method: Any, sizes: Callable[[], Iterator[Sequence[Tensor]]]) -> Generator[None, None, tuple[tuple[float, ...], ...]]:
    """The order statistics that `method` wants of what `sizes` goes through, block by block, twice; a breath after each block."""
    rankings: list[Ranking] = []
    for block in sizes():
        if not block:
            return ()  # nothing is wanted, so nothing more is read
        rankings = rankings or [Ranking() for _ in block]
        for ranking, numbers in zip(rankings, block, strict=True):
            ranking.see(numbers)
        yield
    if not rankings:
        return ()
    for ranking, ranks in zip(
        rankings, method.ranks([(ranking.count, ranking.count - ranking.zeros) for ranking in rankings]), strict=True
    ):
        ranking.want(ranks)
    for block in sizes():
        for ranking, numbers in zip(rankings, block, strict=True):
            ranking.look(numbers)
        yield
    return tuple(ranking.found() for ranking in rankings)
