"""How few of a model's numbers carry what was learnt: those that moved most, put into the base alone.

What it is not: a model that is kept (`merges/grafting.py`), or the learnt mask of the paper (`learnt_grafting.py`); this is the mask that
it starts from. Tags as in the project's notes: [P] the paper's abstract, [R] read in the authors' code
(abhishekpanigrahi1996/Skill-Localization-by-grafting), [D] derived, [O] our own choice.
"""

from collections.abc import Generator
from fractions import Fraction
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.core.known import LooksAtKnown
from workbench.core.picture import Finding, Picture
from workbench.materials.evidence import Batch
from workbench.materials.grafted import Grafted, losses, read_as
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

SHARES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0)  # of all numbers [O]
WHOLE = 0.95  # share of the gain that counts as all of it; the paper's figure [P]
LEAST = "share of numbers that brings 95 % of the gain"
Tried = list[tuple[float, dict[str, float]]]


class SkillLocalisation(LooksAtKnown, Inspection, title="Skill localisation", paper="arXiv:2302.06600"):
    """See how few numbers carry what was learnt: put those that moved most into the base, more and more of them.

    $$\\theta(s) = \\theta_0 + \\gamma_s \\odot (\\theta_1 - \\theta_0), \\qquad
    \\gamma_s = [\\, |\\theta_1 - \\theta_0| \\text{ is among the largest share } s \\,]$$

    A ten-thousandth of the numbers does more than 95 % of what the tuned model does, and the few numbers of different tasks hardly overlap
    [P]. For that the authors go on from the largest share of 1e-5 and learn which numbers to add and take away [R]; here it is the largest
    alone, so the share that is needed is larger. It is counted over all numbers of the model, at least one, and those of equal size are
    taken together [O]. Of two models it tells how many of the numbers that either takes both take: two random choices of a share s of all
    have s/(2 − s) in common [D].
    """

    pictures = (
        Picture("gain", "lines", "Gain with those that moved most", x="numbers taken", y="share of the gain", each="read", mark=WHOLE),
        Picture("overlap", "lines", "Numbers that two models have in common", x="numbers taken", y="in common", each="models"),
    )
    still = {"gain over the base": 0.0}

    def costs(self) -> str:
        times = len(SHARES) * len(self.looks_at())
        return f"Reads up to {self.most_rows} rows {times} times with each tuned model; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        batches = {name: subject.evidence.batches(name) for name in self.looks_at()}
        base, rows = losses(subject.base, batches), list[list[Any]]()
        numbers, cuts = dict[str, dict[str, float]](), list[list[float]]()
        for number, label in enumerate(subject.labels):
            found = yield from _tried(subject, number, batches)
            own = found[-1][1]  # with all numbers it is the tuned model
            for share, (_, loss) in zip(SHARES, found, strict=True):
                gains = {name: (base[name] - loss[name]) / (base[name] - own[name]) if own[name] != base[name] else None for name in loss}
                rows += [[label, read_as(label, name), in_words(share), share, loss[name], gain] for name, gain in gains.items()]
            numbers[label] = _numbers(base[self.rows], own[self.rows], [loss[self.rows] for _, loss in found])
            cuts.append([cut for cut, _ in found])
        tables = [Table("gain", ["model", "read", "numbers taken", "share taken", "loss (nats)", "share of the gain"], rows)]
        if len(subject.labels) > 1:
            tables.append((yield from _overlap(subject, cuts)))
        return Finding([_said(label, own) for label, own in numbers.items()], tables, numbers)


def _tried(subject: Subject, number: int, batches: dict[str, list[Batch]]) -> Generator[Progress, None, Tried]:
    """At each share how far a number moved at least that is taken, and the loss on each set of rows; the model is let go."""
    graft, found = Grafted(subject, number), Tried()
    for cut in graft.cuts([max(1, int(share * graft.count())) for share in SHARES]):
        yield Progress(len(found), len(SHARES), f"shares of {subject.labels[number]} tried")
        with graft.put(partial(taken, cut)) as model:
            found.append((cut, losses(model, batches)))
    return found


def taken(cut: float, name: str, base: Tensor, own: Tensor) -> Tensor:
    """The tuned numbers where they moved at least that far."""
    return torch.where((own - base).abs() >= cut, own, base)


def in_words(share: float) -> str:
    """`3 in 10,000`."""
    part = Fraction(share).limit_denominator(1_000_000)
    return "all" if part == 1 else f"{part.numerator} in {part.denominator:,}"


def _overlap(subject: Subject, cuts: list[list[float]]) -> Generator[Progress, None, Table]:
    """|γ₁ ∧ γ₂| / |γ₁ ∨ γ₂| of each two models at each share but the whole."""
    pairs = list(combinations(range(len(subject.labels)), 2))
    both, either = (torch.zeros(len(pairs), len(SHARES) - 1, dtype=torch.int64) for _ in range(2))
    for done, weight in enumerate(subject.weights()):
        yield Progress(done, len(subject.names), f"comparing {weight.name}")
        sizes = [(own - weight.base).abs() for own in weight.tuned]
        for place in range(len(SHARES) - 1):
            masks = [(size >= own[place]) & (size > 0) for size, own in zip(sizes, cuts, strict=True)]
            for pair, (one, other) in enumerate(pairs):
                both[pair, place] += (masks[one] & masks[other]).sum()
                either[pair, place] += (masks[one] | masks[other]).sum()
    rows = list[list[Any]]()
    for pair, (one, other) in enumerate(pairs):
        name = f"{subject.labels[one]} and {subject.labels[other]}"
        for place, share in enumerate(SHARES[:-1]):
            common = int(both[pair, place]) / int(either[pair, place]) if either[pair, place] else None
            rows.append([name, in_words(share), share, common, share / (2 - share)])
    return Table("overlap", ["models", "numbers taken", "share taken", "in common", "by chance"], rows)


def _numbers(base: float, own: float, curve: list[float]) -> dict[str, float]:
    found = {"loss": own, "gain over the base": base - own}
    if base <= own:
        return found
    enough = base - WHOLE * (base - own)
    return found | {LEAST: next(share for share, loss in zip(SHARES, curve, strict=True) if loss <= enough)}  # at the latest with all


def _said(label: str, numbers: dict[str, float]) -> str:
    if LEAST not in numbers:
        return f"{label} is no better than its base on these rows, so there is no skill to look for."
    return (
        f"Of the numbers of {label} {in_words(numbers[LEAST])}, those that moved most, bring 95 % or more of what it gained over its base "
        "on these rows."
    )
