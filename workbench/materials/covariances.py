"""What the inputs of a model's matrices have in common over some rows, n × n numbers a matrix, of no more at a time than there is room for.

What it is not: the reading of rows (`evidence.py`), or what is made of the numbers (`methods/adapters/`). Matrices are taken in portions,
and each portion is a pass over the rows.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress
from workbench.materials.evidence import Batch, inputs

ROOM = 2 << 30  # bytes


@dataclass
class Inputs:
    """What one matrix read, added up in float32: `products` (n, n) of x·xᵀ, `sums` (n,) of x, over `count` tokens."""

    products: Tensor
    sums: Tensor
    count: int = 0

    def add(self, x: Tensor) -> None:
        """(tokens, n)."""
        x = x.float()
        self.products.addmm_(x.T, x)
        self.sums += x.sum(0)
        self.count += len(x)

    def second(self) -> Tensor:
        """E[xxᵀ]."""
        return self.products / self.count

    def covariance(self) -> Tensor:
        """E[xxᵀ] less that of the mean."""
        mean = self.sums / self.count
        return self.second() - torch.outer(mean, mean)


def observed(
    model: PreTrainedModel, sizes: Mapping[str, int], batches: Sequence[Batch], take: Callable[[str, Inputs], None]
) -> Generator[Progress, None, None]:
    """`take(name, inputs)` once for each matrix, by the name of its module and the width n of what it reads."""
    groups = portions({name: 4 * size * size for name, size in sizes.items()}, ROOM)
    for number, names in enumerate(groups):
        held = {name: Inputs(*(torch.zeros(shape, device=model.device) for shape in ((sizes[name],) * 2, sizes[name]))) for name in names}
        what = "rows read" if len(groups) == 1 else f"rows read, pass {number + 1} of {len(groups)}"
        yield from inputs(model, names, batches, lambda name, x, held=held: held[name].add(x), what)
        for name in names:
            take(name, held.pop(name))


def portions(sizes: Mapping[str, int], room: int) -> list[list[str]]:
    """The names in their order, in groups whose sizes add up to `room` at most; what is larger stands alone."""
    groups, left = list[list[str]](), 0
    for name, size in sizes.items():
        if not groups or size > left:
            groups.append([])
            left = room
        groups[-1].append(name)
        left -= size
    return groups
