"""What the intruder dimensions of a tuned model do: they are made weaker step by step, and rows are read with what is left.

What it is not: the counting of them (`intruder_dimensions.py`), or a model that is kept. After "LoRA vs Full Fine-tuning: An Illusion of
Equivalence". Tags as in the project's notes: [P] the paper's abstract, [R] read in the authors' code (reeceshuttle/intruder-dimensions),
[O] our own choice.
"""

from collections.abc import Generator
from functools import partial
from typing import Any

from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.core.known import LooksAtKnown
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.core.words import count
from workbench.materials.grafted import Grafted, losses, read_as
from workbench.materials.models import layer_of
from workbench.materials.singular import Directions, best_match, directions
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.0)  # [O]


class IntruderRemoval(LooksAtKnown, Inspection, title="Intruder dimensions made weaker"):
    """See what happens to the new task, and to what was known, when the intruder dimensions are scaled down to nothing.

    $$W_c = W_1 + (c - 1) \\sum_{j \\text{ intrudes}} \\sigma'_j \\, u'_j {v'_j}^{\\top}, \\qquad c \\in [0, 1]$$

    Intruders are the strong left singular vectors u' of a tuned matrix whose best match with the base's lies below ε: of the ten strongest,
    below 0.5 [R]. They cause forgetting, and their effects can be made smaller [P]; that this is done by scaling them is our own form [O].
    At c = 1 the model is as it was tuned, at c = 0 the intruders are gone from every matrix inside the blocks at once. If the loss on what
    was known falls before the loss on the new task rises, a weaker intruder is the better model. Experts that lie in one tensor are left as
    they are [O], and so are the models on the disk.
    """

    pictures = (Picture("losses", "lines", "Loss as the intruders get weaker", x="strength left", y="loss (nats)", each="read"),)
    still = {"intruders": 0.0, "loss added without them": 0.0}

    strongest: int = knob(10, ge=1, le=1000, help="how many of the strongest directions of each matrix are looked at", log=True)
    match: float = knob(0.5, gt=0, le=1, step=0.05, help="a direction whose best match with the base's lies below this is an intruder")
    widest: int = knob(
        4096, ge=2, le=65_536, label="widest matrix", help="only matrices whose smaller side is at most this", log=True, more=True
    )

    def costs(self) -> str:
        times = len(STRENGTHS) * len(self.looks_at())
        return f"Takes the singular directions of each matrix of all models, and reads up to {self.most_rows} rows {times} times with each."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        numbers, rows, says = dict[str, dict[str, float]](), list[list[Any]](), list[str]()
        for number, label in enumerate(subject.labels):
            found, curves = yield from self._tried(subject, number)
            for name, curve in curves.items():
                rows += [[label, read_as(label, name), strength, loss] for strength, loss in zip(STRENGTHS, curve, strict=True)]
            numbers[label] = _numbers(found, curves[self.rows], curves[self.known] if self.known else None)
            says.append(_said(label, numbers[label]))
        return Finding(says, [Table("losses", ["model", "read", "strength left", "loss (nats)"], rows)], numbers)

    def _tried(self, subject: Subject, number: int) -> Generator[Progress, None, tuple[dict[str, Directions], dict[str, list[float]]]]:
        """The intruders of one model, and its curves; the model is let go."""
        graft = Grafted(subject, number)
        found = yield from self._intruders(graft)
        return found, (yield from self._curves(subject, graft, found))

    def _intruders(self, graft: Grafted) -> Generator[Progress, None, dict[str, Directions]]:
        """By the names of the matrices that have some."""
        inside = [
            (name, base, own)
            for name, base, own in graft.pairs()
            if layer_of(name) is not None and own.dim() == 2 and min(own.shape) <= self.widest
        ]
        found = dict[str, Directions]()
        for done, (name, base, own) in enumerate(inside):
            yield Progress(done, len(inside), "matrices decomposed")
            held = directions(own).strongest(self.strongest)
            strange = held.chosen(best_match(held, directions(base)) < self.match)
            if len(strange.values):
                found[name] = strange
        return found

    def _curves(self, subject: Subject, graft: Grafted, found: dict[str, Directions]) -> Generator[Progress, None, dict[str, list[float]]]:
        """By the name of the rows, the loss at each of the strengths."""
        batches = {name: subject.evidence.batches(name) for name in self.looks_at()}
        curves = {name: list[float]() for name in batches}
        for done, strength in enumerate(STRENGTHS):
            yield Progress(done, len(STRENGTHS), "strengths tried")
            with graft.put(partial(_weaker, found, strength)) as model:
                for name, loss in losses(model, batches).items():
                    curves[name].append(loss)
        return curves


def _weaker(found: dict[str, Directions], strength: float, name: str, base: Tensor, own: Tensor) -> Tensor:
    return own if name not in found or strength == 1 else (own.double() - (1 - strength) * found[name].whole()).to(own)


def _numbers(found: dict[str, Directions], losses: list[float], known: list[float] | None) -> dict[str, float]:
    numbers = {
        "intruders": float(sum(len(own.values) for own in found.values())),
        "loss": losses[0],
        "loss added without them": losses[-1] - losses[0],
    }
    return numbers | ({"loss of what was known": known[0], "added to it without them": known[-1] - known[0]} if known else {})


def _said(label: str, numbers: dict[str, float]) -> str:
    if not numbers["intruders"]:
        return f"{label} has no intruder dimension, so there is nothing to make weaker."
    after = f"{numbers['loss']:.3g} to {numbers['loss'] + numbers['loss added without them']:.3g} nats"
    known = ""
    if "loss of what was known" in numbers:
        before = numbers["loss of what was known"]
        known = f", and of what was known from {before:.3g} to {before + numbers['added to it without them']:.3g}"
    return f"Without its {count(int(numbers['intruders']), 'intruder dimension')} the loss of {label} goes from {after}{known}."
