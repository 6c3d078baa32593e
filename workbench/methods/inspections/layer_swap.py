"""Blocks of the base in the tuned model, and blocks of the tuned model in the base: which of them carry what was learnt.

What it is not: what a block passes on, exchanged for single prompts and places (`layer_patching.py`); here its weights are exchanged, for
all rows. Tags as in the project's notes: [P] abstract of the paper on layers that are patched (Knobe), [D] derived, [O] our own choice.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.core.known import LooksAtKnown
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.evidence import Batch
from workbench.materials.grafted import Grafted, losses, read_as
from workbench.materials.models import blocks, layer_of
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

LOST, BROUGHT = "share gone back", "share brought along"
COLUMNS = ["model", "read", "layer", "loss with the base's (nats)", "loss with it alone (nats)", LOST, BROUGHT]
Sets = dict[str, list[Batch]]
Place = int | None
"""A block, or None for all that lies in no block."""


class LayerSwap(LooksAtKnown, Inspection, title="Layers exchanged with the base"):
    """See which blocks carry what was learnt: put the base's in their place one by one, and put each of them into the base alone.

    $$\\frac{L(\\theta_1 \\text{ with } \\theta_0 \\text{ in } S) - L(\\theta_1)}{L(\\theta_0) - L(\\theta_1)}, \\qquad
    \\frac{L(\\theta_0) - L(\\theta_0 \\text{ with } \\theta_1 \\text{ in } S)}{L(\\theta_0) - L(\\theta_1)}$$

    The first is the share of the gain that goes back with the base's block S, the second the share that the tuned S alone brings.
    Layers are exchanged to find where a model's answers changed [P]; by their weights and on the loss of rows it is our own form [O]. A
    block that takes much back and brings little works only together with others; shares need not add up to one, and lie below 0 or above
    1 where blocks of two models do not fit each other [D]. Three at once find what neighbours share. Where a data set of what was known
    is named, the same shares tell which blocks cost it most, and how much of that the base's own wins back.

    All that lies in no block (embeddings, last norm, head) is exchanged together as one more.
    """

    pictures = (
        Picture("layers", "bars", "What goes back with the base's block in its place", x="layer", y=LOST, each="read"),
        Picture("layers", "bars", "What a block brings to the base", x="layer", y=BROUGHT, each="read"),
    )
    still = {"gain over the base": 0.0}

    window: int = knob(1, ge=1, le=99, help="how many blocks are exchanged together, with the named one in the middle", unit="blocks")

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} rows twice for each block of each tuned model; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        batches = {name: subject.evidence.batches(name) for name in self.looks_at()}
        base, rows, numbers, says = losses(subject.base, batches), list[list[Any]](), dict[str, dict[str, float]](), list[str]()
        for number, label in enumerate(subject.labels):
            own, found = yield from self._tried(subject, number, batches, base)
            says += [self._said(read_as(label, name), base[name] - own[name], told) for name, told in found.items()]
            numbers[label] = {"loss": own[self.rows], "gain over the base": base[self.rows] - own[self.rows], **_most(found[self.rows])}
            rows += [row for told in found.values() for row in told]
        return Finding(says, [Table("layers", COLUMNS, rows)], numbers)

    def _tried(
        self, subject: Subject, number: int, batches: Sets, base: dict[str, float]
    ) -> Generator[Progress, None, tuple[dict[str, float], dict[str, list[list[Any]]]]]:
        """Of one model its losses, and its rows of the table for each set of rows; the model is let go."""
        graft, label = Grafted(subject, number), subject.labels[number]
        own, places = losses(graft.model, batches), [*range(len(blocks(graft.model))), None]
        found = {name: list[list[Any]]() for name in batches}
        for done, place in enumerate(places):
            yield Progress(done, len(places), f"blocks of {label} exchanged")
            without, alone = (self._with(graft, place, which, batches) for which in (_exchanged, _alone))
            for name, told in found.items():
                shares = _shares(base[name], own[name], without[name], alone[name])
                told.append([label, read_as(label, name), place, without[name], alone[name], *shares])
        return own, found

    def _with(self, graft: Grafted, place: Place, which: Callable[..., Tensor], batches: Sets) -> dict[str, float]:
        with graft.put(partial(which, self._together(place))) as model:
            return losses(model, batches)

    def _together(self, place: Place) -> set[Place]:
        """What is exchanged at a place."""
        before = (self.window - 1) // 2
        return {None} if place is None else set(range(place - before, place - before + self.window))

    def _said(self, read: str, gain: float, rows: list[list[Any]]) -> str:
        inside = [row for row in rows if row[2] is not None and row[5] is not None]
        if not inside:
            return f"{read} is as good as its base, so no block carries anything."
        lost, brings = (max(inside, key=lambda row: row[place]) for place in (5, 6))
        around = f" and {self.window - 1} beside it" if self.window > 1 else ""
        verb, what = ("loses", "gained over the base") if gain > 0 else ("wins back", "is worse than the base by")
        return (
            f"{read} {verb} {lost[5]:.0%} of what it {what} when it has the base's block {lost[2]}{around}, more than with any other; "
            f"block {brings[2]}{around} alone brings {brings[6]:.0%} of it to the base."
        )


def _exchanged(there: set[Place], name: str, base: Tensor, own: Tensor) -> Tensor:
    return base if layer_of(name) in there else own


def _alone(there: set[Place], name: str, base: Tensor, own: Tensor) -> Tensor:
    return own if layer_of(name) in there else base


def _shares(base: float, own: float, without: float, alone: float) -> tuple[float | None, float | None]:
    """What is lost and what is brought, of a gain (or a loss) that is not 0."""
    gain = base - own
    return ((without - own) / gain, (base - alone) / gain) if gain else (None, None)


def _most(rows: list[list[Any]]) -> dict[str, float]:
    lost = [row[5] for row in rows if row[2] is not None and row[5] is not None]
    return {"most gone back with one block": max(lost)} if lost else {}
