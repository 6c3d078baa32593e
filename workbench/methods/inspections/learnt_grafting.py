"""The learnt mask of skill localisation: which few numbers of a tuned model, put into its base, do what it learnt.

What it is not: the curve over the numbers that moved most (`skill_localisation.py`), where this begins, or the merge that takes those
(`merges/grafting.py`). Tags as in the project's notes: [P] the paper's abstract, [R] read in the authors' code
(abhishekpanigrahi1996/Skill-Localization-by-grafting), [D] derived, [V] measured, [O] our own choice.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from workbench.core.events import Progress, Table
from workbench.core.known import LooksAtKnown
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.core.words import count
from workbench.materials.evidence import Batch, Evidence
from workbench.materials.grafted import Grafted, losses, read_as
from workbench.materials.learnt_mask import Learning, Mask, learnt, most_moved
from workbench.materials.sparse import save_sparse
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

LEARNT, MOVED, ALL = "learnt", "as many that moved most", "all changes"
Losses = dict[str, float]
Sets = dict[str, list[Batch]]


@dataclass(frozen=True)
class Found:
    """The mask of one model, and whether it is the one it started with; `taken` and `loss` by the kind of mask, `size` is the model's."""

    mask: Mask
    same: bool
    size: int
    taken: dict[str, int]
    loss: dict[str, Losses]
    kept: Path | None


class LearntGrafting(LooksAtKnown, Inspection, title="Skill localisation, learnt", paper="arXiv:2302.06600"):
    """Learn which few numbers of a tuned model its base needs to do as well, and see how many fewer they are than those that moved most.

    $$\\gamma = b + (1 - 2b)\\, \\sigma(S - 10), \\qquad
    S \\leftarrow S - \\eta\\, (1 - 2b)\\, (\\nabla_\\theta L \\odot \\tau)\\, \\sigma'(S - 10), \\qquad
    \\theta = \\theta_0 + \\gamma \\odot \\tau$$

    b are the numbers that moved most, a share of 1e-5 of the model, and the rate η is 1e7, because σ′ is 4.5e-5 where it begins [R]; on
    models of other sizes another may be better. After each pass the mask is rounded, and the best one is kept [R]. About 1e-4 of the
    numbers do more than 95 % of what the tuned model does, and those of unlike tasks hardly overlap [P].

    A LoRA of the demo model, trained for 60 steps on a skill of the pocket world: 0.66 % of the numbers, learnt with these settings,
    brought 90 % of the gain, and as many that moved most 26 % [V].

    It learns on every second row. All losses are told on the others, which it sees only when the best pass is chosen [R][O]. Beside it
    stands the mask of as many numbers that moved most: where that does as well, learning was not worth it. Two random masks of a and b
    numbers of n share about ab/n [D].

    The numbers that are taken are kept in the run's folder as an adapter, `graft-1` for the first model. The Merge tab lists it among the
    tuned models; name that folder wherever else a model is asked for: compared, inspected, made a model of, or in a merge's recipe.
    """

    pictures = (
        Picture("masks", "bars", "Gain with the numbers that are taken", x="mask", y="share of the gain", each="read"),
        Picture("overlap", "bars", "Numbers that two masks have in common", x="models", y="in common", each="models"),
    )
    still = {"gain over the base": 0.0, "numbers taken": 0.0}

    passes: int = knob(10, ge=1, le=1000, help="how often the rows are read to learn the mask", log=True)
    start: float = knob(1e-5, gt=0, le=1, log=True, help="share of all numbers that it starts with, those that moved most")
    rate: float = knob(1e7, gt=0, le=1e12, log=True, help="η: how far a step moves the mask; raise it where nothing is added", more=True)

    def costs(self) -> str:
        return (
            f"Reads up to {self.most_rows} rows {2 * self.passes + 4} times with each tuned model, half of them with gradients; in memory "
            "are two models more than the base and the tuned one."
        )

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        taught, tried = self._halves(subject)
        base, found = losses(subject.base, tried), list[Found]()
        for number in range(len(subject.labels)):
            found.append((yield from self._learnt(subject, number, taught, tried)))
        rows, numbers, says = list[list[Any]](), dict[str, dict[str, float]](), list[str]()
        for label, own in zip(subject.labels, found, strict=True):
            rows += _rows(label, own, base)
            numbers[label] = _numbers(own, base[self.rows], self.rows)
            says.append(_said(label, own, numbers[label]))
        told = ["model", "read", "mask", "numbers taken", "share taken", "loss (nats)", "share of the gain"]
        return Finding(says, [Table("masks", told, rows), *_overlap(subject.labels, found)], numbers)

    def _halves(self, subject: Subject) -> tuple[list[Batch], Sets]:
        """Batches to learn from, and by the name of their set those on which it is told how well a mask does."""
        every, rows = subject.evidence, subject.rows[self.rows]
        half = Evidence({"taught": rows[::2], "tried": rows[1::2] or rows}, every.pad_id, every.device)
        known: Sets = {self.known: every.batches(self.known)} if self.known else {}
        return half.batches("taught"), known | {self.rows: half.batches("tried")}

    def _learnt(self, subject: Subject, number: int, taught: list[Batch], tried: Sets) -> Generator[Progress, None, Found]:
        """The mask of one model, which is let go."""
        graft = Grafted(subject, number)
        size = graft.count()
        begun = most_moved(graft, min(graft.moved(), max(1, int(self.start * size))))
        mask = yield from learnt(Learning(graft, begun, self.rate, subject.seed), taught, tried[self.rows], self.passes)
        moved, loss = most_moved(graft, len(mask)), {ALL: losses(graft.model, tried)}
        for name, own in ((LEARNT, mask), (MOVED, moved)):
            with graft.put(own.put) as model:
                loss[name] = losses(model, tried)
        taken = {LEARNT: len(mask), MOVED: len(moved), ALL: graft.moved()}
        return Found(mask, mask == begun, size, taken, loss, _kept(subject, number, graft, mask))


def _kept(subject: Subject, number: int, graft: Grafted, mask: Mask) -> Path | None:
    """The folder of the adapter that the mask makes; None where nothing is kept, or nothing was taken."""
    if subject.folder is None or not len(mask):
        return None
    folder, deltas = subject.folder / f"graft-{number + 1}", mask.deltas(graft)
    folder.mkdir(exist_ok=True)
    with graft.put(mask.put) as model:
        save_sparse(folder, model, deltas, subject.refs[0].path)
    return folder


def _rows(label: str, found: Found, base: Losses) -> list[list[Any]]:
    rows = list[list[Any]]()
    for name, known in base.items():
        own = found.loss[ALL][name]
        for mask in (LEARNT, MOVED, ALL):
            loss, taken = found.loss[mask][name], found.taken[mask]
            gain = (known - loss) / (known - own) if own != known else None
            rows.append([label, read_as(label, name), mask, taken, taken / found.size, loss, gain])
    return rows


def _overlap(labels: Sequence[str], found: Sequence[Found]) -> list[Table]:
    """|γ₁ ∧ γ₂| / |γ₁ ∨ γ₂| of each two learnt masks, and what two random ones of their sizes would have."""
    rows = list[list[Any]]()
    for one, other in combinations(range(len(labels)), 2):
        first, second = found[one].mask, found[other].mask
        both = first.shared(second)
        chance = len(first) * len(second) / found[one].size
        total = len(first) + len(second)
        common = [shared / (total - shared) if total else None for shared in (both, chance)]
        rows.append([f"{labels[one]} and {labels[other]}", both, *common])
    return [Table("overlap", ["models", "numbers in both", "in common", "by chance"], rows)] if rows else []


def _numbers(found: Found, base: float, rows: str) -> dict[str, float]:
    own = found.loss[ALL][rows]
    return {
        "loss": own,
        "gain over the base": base - own,
        "numbers taken": float(len(found.mask)),
        "loss with the learnt mask": found.loss[LEARNT][rows],
        "loss with as many that moved most": found.loss[MOVED][rows],
    }


def _said(label: str, found: Found, numbers: dict[str, float]) -> str:
    gain = numbers["gain over the base"]
    if gain <= 0:
        return f"{label} is no better than its base on these rows, so there is no skill to look for."
    base = numbers["loss"] + gain
    share, moved = ((base - numbers[f"loss with {mask}"]) / gain for mask in ("the learnt mask", MOVED))
    taken = f"{count(found.taken[LEARNT], 'number')}, {found.taken[LEARNT] / found.size:.2g} of all,"
    kept = f" They are kept in {found.kept}, and the Merge tab lists them." if found.kept else ""
    if found.same:
        return (
            f"For {label} learning found nothing better than the {taken} that it started with, which bring {share:.0%} of the gain over "
            f"the base. Raise the rate, or let it begin with more.{kept}"
        )
    return f"In {label}, {taken} that were learnt bring {share:.0%} of the gain over the base; as many that moved most, {moved:.0%}.{kept}"
