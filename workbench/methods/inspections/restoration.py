"""Parts of what tuning changed, put back to the base's: the smallest changes first, or the largest, and rows read with what is left.

What it is not: a model that is kept (`merges/grafting.py`, `merges/breadcrumbs.py`), or the few numbers that carry a skill
(`skill_localisation.py`), which are counted among all numbers. Tags as in the project's notes: [P] the abstract of the paper that found it
(on supervised tuning at token and parameter levels), [O] our own choice.
"""

import math
from collections.abc import Generator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.core.known import LooksAtKnown
from workbench.core.picture import Finding, Picture
from workbench.materials.grafted import Grafted, losses, read_as
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)  # of the numbers that moved [O]
DEAR = 0.05  # share of the gain that may be lost before a part counts as needed [O]
HARDLY = 0.02  # share of the loss that is not worth a word [O]
SMALLEST, LARGEST = "smallest first", "largest first"


class Restoration(LooksAtKnown, Inspection, title="Changes undone"):
    """See how much of what tuning changed can go back to the base's before the rows suffer, and whether something is the better for it.

    $$\\theta_i = \\theta_{0,i} \\;\\text{ if } |\\tau_i| < q_p, \\quad \\text{else } \\theta_{1,i}, \\qquad \\tau = \\theta_1 - \\theta_0$$

    q_p is the size of change that p of the numbers that moved lie below, of the whole model together [O]; or, the largest first, the rest
    of them goes back. Up to nine tenths of the changes of supervised tuning are said to add nothing to what a model knows, and
    putting them back to make it answer better [P]. The curve tells for these rows: at 0 it is the model as it was tuned, at 1 the base.
    Numbers that did not move do not count, so an adapter on few matrices is asked about those alone [O]; changes of one size go together.
    The model on the disk stays as it is; the merge Grafting makes one of the share that is found here.
    """

    pictures = (
        Picture(SMALLEST, "lines", "Loss as changes are undone, the smallest first", x="share undone", y="loss (nats)", each="read"),
        Picture(LARGEST, "lines", "Loss as changes are undone, the largest first", x="share undone", y="loss (nats)", each="read"),
    )
    still = {"gain over the base": 0.0}

    def costs(self) -> str:
        times = 2 * len(SHARES) * len(self.looks_at())
        return f"Reads up to {self.most_rows} rows {times} times with each tuned model; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        rows, numbers = {SMALLEST: list[list[Any]](), LARGEST: list[list[Any]]()}, dict[str, dict[str, float]]()
        for number, label in enumerate(subject.labels):
            curves = {SMALLEST: list[float](), LARGEST: list[float]()}
            for order, share, found in (yield from self._tried(subject, number)):
                rows[order] += [[label, read_as(label, name), share, loss] for name, loss in found.items()]
                curves[order].append(found[self.rows])
            numbers[label] = _numbers(curves)
        tables = [Table(order, ["model", "read", "share undone", "loss (nats)"], own) for order, own in rows.items()]
        return Finding([said(label, own) for label, own in numbers.items()], tables, numbers)

    def _tried(self, subject: Subject, number: int) -> Generator[Progress, None, list[tuple[str, float, dict[str, float]]]]:
        """(which go back first, share, loss on each set of rows) of one model, which is let go."""
        graft, batches = Grafted(subject, number), {name: subject.evidence.batches(name) for name in self.looks_at()}
        found = list[tuple[str, float, dict[str, float]]]()
        for order, share, cut in steps(graft):
            yield Progress(len(found), 2 * len(SHARES), f"shares of {subject.labels[number]} tried")
            with graft.put(partial(kept, order, cut)) as model:
                found.append((order, share, losses(model, batches)))
        return found


def steps(graft: Grafted) -> list[tuple[str, float, float]]:
    """(which go back first, share, cut): what changed by at least the cut belongs to the large ones."""
    tried, moved = [(order, share) for order in (SMALLEST, LARGEST) for share in SHARES], graft.moved()
    large = [moved - int(share * moved) if order == SMALLEST else int(share * moved) for order, share in tried]
    told = zip(tried, large, graft.cuts(large), strict=True)
    return [(order, share, cut if count else math.inf) for (order, share), count, cut in told]


def kept(order: str, cut: float, name: str, base: Tensor, own: Tensor) -> Tensor:
    large = (own - base).abs() >= cut
    return torch.where(large, own, base) if order == SMALLEST else torch.where(large, base, own)


def _numbers(curves: dict[str, list[float]]) -> dict[str, float]:
    own, base = curves[SMALLEST][0], curves[SMALLEST][-1]
    lowest = min(range(len(SHARES)), key=lambda place: curves[SMALLEST][place])
    found = {"loss": own, "gain over the base": base - own, "lowest loss": curves[SMALLEST][lowest], "undone at the lowest": SHARES[lowest]}
    if base <= own:
        return found
    enough = own + DEAR * (base - own)
    return found | {f"may be undone, {order}": as_far_as(curve, enough) for order, curve in curves.items()}


def as_far_as(curve: list[float], enough: float) -> float:
    """The share before the first at which the loss is higher than that."""
    beyond = next((place for place, loss in enumerate(curve) if loss > enough), len(curve))
    return SHARES[beyond - 1]


def said(label: str, numbers: dict[str, float]) -> str:
    if "may be undone, " + SMALLEST not in numbers:
        return f"{label} is no better than its base on these rows, so nothing that was learnt can be traced."
    smallest, largest = (numbers[f"may be undone, {order}"] for order in (SMALLEST, LARGEST))
    better = ""
    if numbers["lowest loss"] < (1 - HARDLY) * numbers["loss"]:
        better = f" With {numbers['undone at the lowest']:.0%} undone the loss is lowest, {numbers['lowest loss']:.4g} instead of "
        better += f"{numbers['loss']:.4g} nats."
    return (
        f"Of what changed in {label}, the smallest {smallest:.0%} can go back to the base for a twentieth of the gain or less; "
        f"of the largest, {largest:.0%}.{better}"
    )
