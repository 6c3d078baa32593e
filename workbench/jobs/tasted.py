"""What a merge that is tried in memory does, as the page shows it, and the geometry of its picture. Opens nothing, reads no model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workbench.core.events import Table
from workbench.jobs.glimpses import Glimpse
from workbench.jobs.scoring import Score, Task
from workbench.materials.angles import mean_cosine
from workbench.methods.contracts import Slot

BASE, MERGED = "base", "merged"
WAY, WIDTHS = "way from the base to the merge", "parameters over the base's"
ON_THE_WAY = 2  # rows of each task that are read on the way


@dataclass(frozen=True)
class Tasted:
    """What a merge does, as far as it is known by now. The models are `base`, each tuned one by its label, and `merged`.

    scores: by model, one for each task. path: (share of the way from the base, loss of each task on fewer rows). said: by model and
    task the answers. places: by model (x, y) with the base at the origin, as far apart as their weights are, as well as a plane can
    show it. cosines: by layer, the mean cosine between the tuned models' task vectors. table: what explains the method. along: what the
    path runs along; for a merge that changes widths it is their parameters over the base's, from one end of its first knob to the other.
    rows: over how many rows the scores are, of how many. growing: the models whose answers are not whole yet.
    """

    tasks: list[Task]
    scores: dict[str, list[Score]]
    path: list[tuple[float, list[float]]]
    said: dict[str, list[list[str]]]
    places: dict[str, tuple[float, float]]
    cosines: list[tuple[int, float]]
    table: Table
    along: str = WAY
    rows: tuple[int, int] = (0, 0)
    growing: frozenset[str] = frozenset()


@dataclass
class Taste:
    """A taste as far as it has come: `begun` is what is known before any model has read a row; `ends`, whether the path begins at the
    base and leads through the merge."""

    begun: Tasted
    glimpses: dict[str, Glimpse]
    way: Iterator[tuple[float, list[float]]]
    ends: bool = False
    first: int = 0  # the stage behind which something is told in any case: 0 the scores, 1 the answers, 2 the way
    rows: int = 0
    path: list[tuple[float, list[float]]] = field(default_factory=list)

    def told(self) -> Tasted:
        tasks, rows = self.begun.tasks, self.rows
        sizes = [len(task.rows["labels"]) for task in tasks]
        known = {name: own for name, own in self.glimpses.items() if rows or not tasks}
        ends = {BASE: 0.0, MERGED: 1.0} if self.ends and known else {}
        path = [(share, known[name].losses(min(rows, ON_THE_WAY))) for name, share in ends.items()]
        return replace(
            self.begun,
            scores={name: own.scores(tasks, rows) for name, own in known.items()},
            path=sorted([*self.path, *path]),
            said={name: own.said for name, own in self.glimpses.items() if own.said is not None},
            rows=(sum(min(rows, size) for size in sizes), sum(sizes)),
            growing=frozenset(name for name, own in self.glimpses.items() if own.said is not None and not own.ended),
        )


def placed(gram: Tensor, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Where the models lie in the plane that shows most of their task vectors, in shares of the base's norm; the base at the origin."""
    size = float(gram[0, 0].sqrt()) or 1.0
    values, vectors = torch.linalg.eigh(gram[1:, 1:])
    axes = torch.zeros(len(names), 2, dtype=torch.float64)
    kept = min(2, len(names))
    axes[:, :kept] = (vectors * values.clamp(min=0).sqrt()).flip(1)[:, :kept]
    axes *= torch.where(axes.sum(0) < 0, -1.0, 1.0)  # an axis has no sign of its own: most lie to the right and above
    return {BASE: (0.0, 0.0)} | {name: (float(x) / size, float(y) / size) for name, (x, y) in zip(names, axes, strict=True)}


def cosines(slots: Iterable[Slot], grams: Mapping[str, Tensor], count: int) -> list[tuple[int, float]]:
    """By layer the mean cosine between pairs of the `count` tuned models' task vectors; nothing for a single model."""
    by_layer = dict[int, Tensor]()
    for slot in slots:
        if slot.layer is not None:
            products = grams[slot.name][1 : 1 + count, 1 : 1 + count]
            by_layer[slot.layer] = by_layer.get(slot.layer, torch.zeros_like(products)) + products
    return [(layer, float(mean_cosine(products))) for layer, products in sorted(by_layer.items())] if count > 1 else []


def with_sum(gram: Tensor, shares: Sequence[float]) -> Tensor:
    """The inner products of a base and task vectors with those of Σ sᵢτᵢ behind them."""
    rows = torch.cat([torch.eye(len(gram), dtype=torch.float64), torch.tensor([[0.0, *shares]], dtype=torch.float64)])
    return rows @ gram @ rows.T
