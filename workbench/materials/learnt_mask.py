"""Which of the numbers that tuning changed carry what was learnt: a mask over them, learnt by gradients and then rounded.

Each number of a mask that starts at b ∈ {0, 1} stands at γ = b + (1 − 2b)·σ(S − 10), S drawn from [0, 1), so all are as they start and
the soft mask has a slope nevertheless. A step moves S by −rate·(1 − 2b)·(∇L ⊙ τ)·σ′(S − 10), the gradient at θ₀ + γ⊙τ; a number whose S
comes to 10 is flipped. What it is not: where it starts, or what is told of it (`methods/inspections/`). Tags: [R] read in the authors' code
(abhishekpanigrahi1996/Skill-Localization-by-grafting), [O] our own choice.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.events import Progress
from workbench.materials.chance import uniform
from workbench.materials.evidence import Batch, gradients
from workbench.materials.grafted import Grafted, mean_loss
from workbench.materials.sparse import Deltas

BIAS = 10.0  # S at which a number is flipped [R]


@dataclass(frozen=True, eq=False)
class Mask:
    """The numbers that are taken: by the parameter's name their ascending places in the flattened parameter, on the CPU."""

    places: Mapping[str, Tensor]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and len(self) == len(other) == self.shared(other)

    def __len__(self) -> int:
        return sum(len(places) for places in self.places.values())

    def of(self, name: str, like: Tensor) -> Tensor:
        """Booleans of the parameter's shape."""
        taken = torch.zeros(like.numel(), dtype=torch.bool)
        taken[self.places.get(name, torch.empty(0, dtype=torch.int64))] = True
        return taken.view(like.shape).to(like.device)

    def put(self, name: str, base: Tensor, own: Tensor) -> Tensor:
        """The base with the tuned numbers in these places, to the bit; for `Grafted.put`."""
        if name not in self.places:
            return base
        return torch.where(self.of(name, base), own, base)

    def deltas(self, graft: Grafted) -> Deltas:
        """What these numbers change, for `save_sparse`."""
        return {
            name: (self.places[name], (own - base).flatten().cpu()[self.places[name]])
            for name, base, own in graft.pairs()
            if len(self.places.get(name, ()))
        }

    def shared(self, other: "Mask") -> int:
        """How many numbers both take."""
        names = self.places.keys() & other.places.keys()
        return sum(int(torch.isin(self.places[name], other.places[name], assume_unique=True).sum()) for name in names)


class Learning:
    """The soft mask of a graft, which is `start` at first; numbers that did not change have no gradient here and stay."""

    def __init__(self, graft: Grafted, start: Mask, rate: float, seed: int):
        self.graft, self.rate = graft, rate
        self._pairs = {name: (base, own) for name, base, own in graft.pairs() if not torch.equal(base, own)}
        self._scores = {name: uniform(seed, name, 0, base.shape).to(base.device) for name, (base, _) in self._pairs.items()}
        self._begun = {name: start.of(name, base) for name, (base, _) in self._pairs.items()}

    def step(self, batch: Batch) -> Generator[Progress, None, None]:
        """One reading of a batch with the soft mask, and each score moved by its gradient."""
        if not self._pairs:
            return  # the model is its base
        with self.graft.put(self._soft) as model:
            yield from gradients(model, self._pairs.keys(), [batch], self._move, "steps of the mask")

    def mask(self) -> Mask:
        """The soft mask, rounded."""
        return Mask({name: (self._begun[name] ^ (self._scores[name] >= BIAS)).flatten().nonzero()[:, 0].cpu() for name in self._pairs})

    def _soft(self, name: str, base: Tensor, own: Tensor) -> Tensor:
        if name not in self._scores:
            return base
        flipped = (self._scores[name] - BIAS).sigmoid()
        return torch.lerp(base, own, torch.where(self._begun[name], 1 - flipped, flipped))

    def _move(self, name: str, gradient: Tensor) -> None:
        """S − rate·(1 − 2b)·(∇L ⊙ τ)·σ′(S − 10)."""
        base, own = self._pairs[name]
        near = (self._scores[name] - BIAS).sigmoid()
        slope = gradient * (own - base) * near * (1 - near)
        self._scores[name] -= self.rate * torch.where(self._begun[name], -slope, slope)


def most_moved(graft: Grafted, many: int) -> Mask:
    """So many numbers, those that changed most; of those that changed equally at the edge the first in the model's order [O]."""
    cut = graft.cuts([many])[0] if many else math.inf
    sizes = {name: (own - base).abs().flatten() for name, base, own in graft.pairs()}
    room, places = many - sum(int((size > cut).sum()) for size in sizes.values()), dict[str, Tensor]()
    for name, size in sizes.items():
        edge = (size == cut).nonzero()[:room, 0]
        places[name] = torch.cat([(size > cut).nonzero()[:, 0], edge]).sort().values.cpu()
        room -= len(edge)
    return Mask(places)


def learnt(learning: Learning, taught: Sequence[Batch], tried: Sequence[Batch], passes: int) -> Generator[Progress, None, Mask]:
    """The best rounded mask by its loss on all rows, of the start and of each pass over `taught`, as the authors keep it [R].

    One step for each batch, where they gather several first [O].
    """
    every = [*taught, *tried]
    best, least = learning.mask(), _loss(learning, learning.mask(), every)
    for done in range(passes):
        yield Progress(done, passes, "passes of the mask")
        for batch in taught:
            yield from learning.step(batch)
        mask = learning.mask()
        loss = _loss(learning, mask, every)
        if loss < least:
            best, least = mask, loss
    return best


def _loss(learning: Learning, mask: Mask, batches: Sequence[Batch]) -> float:
    with learning.graft.put(mask.put) as model:
        return mean_loss(model, batches)
