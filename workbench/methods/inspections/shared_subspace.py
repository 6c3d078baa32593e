"""CLAIR over whole adapters: which of several does not write into the subspace that most of them share, matrix by matrix and in all.

What it is not: a merge that keeps such parts out (`merges/clair.py`), a verdict on who is harmful, or the finding of the subspace, which
never has a matrix of all changes side by side (`materials/subspace.py`). Tags as in the project's notes: [P] the paper's abstract, whose
algorithm was not read, [O] our own reconstruction or choice, [V] tried in numbers.
"""

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.core.words import count
from workbench.materials.factors import cut_dense
from workbench.materials.family import Member
from workbench.materials.lora import Factors
from workbench.materials.models import layer_of
from workbench.materials.subject import Subject
from workbench.materials.subspace import FEW, shared
from workbench.methods.contracts import Inspection

GAP = 0.25  # between neighbours among the scores, below which a gap tells nothing [O]
INSIDE, OUTSIDE, UNTOLD = "shares the group's subspace", "does not share the group's subspace", "cannot be told"


class SharedSubspace(Inspection, title="Shared subspace (CLAIR)", paper="arXiv:2605.21217"):
    """See which of several adapters does not write into the subspace that most of them share.

    $$M = [\\Delta W_1 | \\dots | \\Delta W_K] = L + S, \\qquad
    \\mathrm{outside}_k = \\frac{\\lVert (I - U U^\\top)\\, \\Delta W_k \\rVert}{\\lVert \\Delta W_k \\rVert}$$

    The changes to one matrix, each made as large as the others, are taken apart into a part L of low rank and one that is zero but for
    whole adapters [P]; U are the leading left singular vectors of L, and γ = √r·K^(−1/4) is the weight between the two [O][V]. An adapter's
    score over all its matrices is the same share of its whole change, so that a matrix it hardly changes hardly counts [O]. Planted
    strangers had 0.94 and more, members 0.10 and less [V]: above 0.5 an adapter does not share the subspace, or, where scores lie closer,
    if it is above the largest gap between them.

    Not to share it is not to be harmful: an adapter of an unrelated task does so rightfully. It takes three that change a matrix, and most
    of them must be of one kind; where half or more are outside there is no group, and nobody is named. Of a model that is no LoRA the
    strongest directions of its change are looked at [O].
    """

    pictures = (
        Picture("models", "bars", "Share of the change outside of the group's subspace", x="model", y="outside"),
        Picture("matrices", "heat", "Share outside, matrix by matrix", x="part", y="layer", value="outside"),
    )
    still = {"matrices changed": 0.0}

    flag: Literal["score", "largest gap"] = knob("score", help="who is named: those above the threshold, or above the largest gap")
    threshold: float = knob(0.5, ge=0, le=1, step=0.05, help="share of its change that an outsider has outside of the subspace", more=True)
    directions: int = knob(16, ge=1, le=512, log=True, help="of a change that is no LoRA, how many of its directions count", more=True)

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        rows, labels = list[list[Any]](), subject.labels
        outside, whole = ([0.0] * len(labels) for _ in range(2))  # squares, over the matrices that can be told
        changed, strange = ([0] * len(labels) for _ in range(2))
        names = [name for name in subject.names if layer_of(name) is not None and len(subject.members[0].shape(name)) == 2]
        for done, name in enumerate(names):
            yield Progress(done, len(names), f"comparing {name}")
            changes = [self._change(name, subject.members[0], member) for member in subject.members[1:]]
            moving = [size(change) > 0 for change in changes]
            scores = shared(changes).scores if sum(moving) >= FEW else None
            for place, change in enumerate(changes):
                score = scores[place] if scores and moving[place] else None
                changed[place] += moving[place]
                strange[place] += score is not None and score > self.threshold
                outside[place] += (score or 0.0) ** 2 * size(change) ** 2
                whole[place] += size(change) ** 2 if score is not None else 0.0
                rows.append([labels[place], layer_of(name), name.split(".")[-2], score, moving[place]])
        told = [(part / all_of_it) ** 0.5 if all_of_it else None for part, all_of_it in zip(outside, whole, strict=True)]
        verdicts = named(told, self.flag, self.threshold)
        table = [list(row) for row in zip(labels, told, verdicts, changed, strange, strict=True)]
        numbers = {
            label: {"matrices changed": float(many)} | ({} if score is None else {"outside": score})
            for label, score, many in zip(labels, told, changed, strict=True)
        }
        tables = [
            Table("models", ["model", "outside", "told", "matrices changed", "matrices above the threshold"], table),
            Table("matrices", ["model", "layer", "part", "outside", "changed"], rows),
        ]
        return Finding(_said(labels, told, verdicts), tables, numbers)

    def _change(self, name: str, base: Member, own: Member) -> Factors:
        """What a model changes in a matrix: a LoRA's own factors, or the strongest directions of what it is beside the base."""
        rows, columns = base.shape(name)
        nothing = Factors(torch.zeros(rows, 0).double(), torch.zeros(0, columns).double())
        if name in own.lora.factors:
            return own.lora.factors[name]
        if own.lora.touched and name not in own.lora.replaced:
            return nothing
        change: Tensor = own.rows(name, 0, rows).double() - base.rows(name, 0, rows).double()
        return cut_dense([change], self.directions).factors if change.any() else nothing


def size(change: Factors) -> float:
    """‖ΔW‖, from products as small as the ranks."""
    square = float(((change.left.T @ change.left) * (change.right @ change.right.T)).sum())
    return max(0.0, square) ** 0.5


def named(scores: Sequence[float | None], flag: str, threshold: float) -> list[str]:
    """What is said of each by their scores; nobody is outside where half of them or more would be."""
    there = sorted(score for score in scores if score is not None)
    gaps = [(high - low, low) for low, high in pairwise(there)]
    widest, below = max(gaps, default=(0.0, 1.0))
    edge = (below if widest >= GAP else 1.0) if flag == "largest gap" else threshold
    out = sum(score > edge for score in there)
    if len(there) < FEW or 2 * out >= len(there):
        return [UNTOLD] * len(scores)
    return [UNTOLD if score is None else OUTSIDE if score > edge else INSIDE for score in scores]


def _said(labels: Sequence[str], scores: Sequence[float | None], verdicts: Sequence[str]) -> list[str]:
    if all(verdict == UNTOLD for verdict in verdicts):
        if sum(score is not None for score in scores) < FEW:
            return [f"Fewer than {FEW} of these models change the same matrices, so there is no group to go by. Choose more of one kind."]
        return [
            "Half of these models or more lie outside of what the others share, so there is no group to go by. Choose more of one kind."
        ]
    there = list(zip(labels, scores, verdicts, strict=True))
    says = [
        f"{label} {verdict}: {score:.0%} of its change lies outside. That says nothing about whether it is harmful."
        for label, score, verdict in there
        if verdict == OUTSIDE and score is not None
    ]
    most = max(score for _, score, verdict in there if verdict == INSIDE and score is not None)
    inside = sum(verdict == INSIDE for verdict in verdicts)
    return [*says, f"{count(inside, 'model')} {'share' if inside > 1 else 'shares'} one subspace, with at most {most:.0%} outside of it."]
