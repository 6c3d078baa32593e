"""Delta activations: a fingerprint of each tuned model, from how five neutral prompts are seen differently than by the base.

What it is not: a measure of what a model can do, or a map of data sets; it places models beside one another. Tags as in the project's
notes: [P] read in the paper, [R] read in the authors' code (OscarXZQ/delta_activations), [O] our own choice.
"""

from collections.abc import Generator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.events import Progress, Table
from workbench.core.picture import Finding, Picture
from workbench.materials.models import hidden_states
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

OPENINGS = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "The task described below requires a response that completes the request accurately.",
    "Below is a description of a task. Provide a response that aligns with the requirements.",
    "The following instruction outlines a task. Generate a response that meets the specified request.",
    "You are given an instruction and input. Write a response that completes the task as requested.",
)
TASK = "\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"
MOST = 256  # tokens of a prompt [R]


class DeltaActivations(Inspection, title="Delta activations (a map of models)", paper="arXiv:2509.04442"):
    """See which tuned models are alike, on a map made from how they see five neutral prompts.

    $$v = \\frac{1}{5} \\sum_{p} \\big( h^1(p) - h^0(p) \\big), \\qquad
    \\cos(a, b) = \\frac{v_a \\cdot v_b}{\\lVert v_a \\rVert \\, \\lVert v_b \\rVert}$$

    h is the last token's hidden state behind the final norm, of the tuned model and of the base; the five prompts ask for a response and
    say nothing else [R]. Models that were tuned for the same domain lie in the same direction, whatever else differed in their runs [P]:
    so a near neighbour is a model of the same kind, and one that lies apart brings something else to a merge. No rows are needed.

    Tuned on two sets together, a model lies near the sum of what it would be after each [P]: of three models or more, the table of sums
    says which two add up to each. The map shows the two directions in which the models differ most, with the base at its origin [O]; how
    much of the differences it shows is told. Paper: arXiv:2509.04442.
    """

    pictures = (
        Picture("map", "points", "The models as seen from the base", x="first direction", y="second direction", value="model"),
        Picture("cosines", "heat", "How alike two models are", x="model", y="other model", value="cosine", each=""),
    )
    still = {"distance from the base": 0.0}

    def costs(self) -> str:
        return "Reads five short prompts with each model; nothing is generated, and no rows are read."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        yield Progress(0, len(subject.refs), "models read")
        base, changes = probed(subject.base, subject.tokenizer), list[Tensor]()
        for number in range(len(subject.labels)):
            yield Progress(number + 1, len(subject.refs), "models read")
            changes.append((probed(subject.tuned(number), subject.tokenizer) - base).mean(0))
        vectors, labels = torch.stack(changes), [subject.refs[0].label, *subject.labels]
        places, shown = on_a_map(vectors)
        norms = vectors.norm(dim=1).tolist()
        rows = [[label, *place, norm] for label, place, norm in zip(labels, [[0.0, 0.0], *places.tolist()], [0.0, *norms], strict=True)]
        tables = [Table("map", ["model", "first direction", "second direction", "distance from the base"], rows)]
        says = [_said(label, norm, float(base.norm(dim=1).mean())) for label, norm in zip(subject.labels, norms, strict=True)]
        if len(vectors) > 1:
            tables.append(Table("cosines", ["model", "other model", "cosine"], _pairs(subject.labels, vectors)))
            says += [*_neighbours(subject.labels, vectors), f"The map shows {shown:.0%} of how the models differ."]
        if len(vectors) > 2:
            tables.append(Table("sums", ["model", "one", "other", "cosine with their sum"], _sums(subject.labels, vectors)))
        numbers = {label: {"distance from the base": norm} for label, norm in zip(subject.labels, norms, strict=True)}
        return Finding(says, tables, numbers)


@torch.no_grad()
def probed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """(5, D) float64, the last token's state of each prompt."""
    found = []
    for opening in OPENINGS:
        ids = tokenizer(opening + TASK, truncation=True, max_length=MOST, return_tensors="pt")["input_ids"].to(model.device)
        found.append(hidden_states(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0, -1])
    return torch.stack(found).double().cpu()


def on_a_map(vectors: Tensor) -> tuple[Tensor, float]:
    """(M, 2) places of M vectors along the two directions in which they and the origin differ most, and the share of it that this shows."""
    points = torch.cat([torch.zeros_like(vectors[:1]), vectors])
    _, sizes, directions = torch.linalg.svd(points - points.mean(0), full_matrices=False)
    two = torch.zeros(2, vectors.shape[1], dtype=vectors.dtype)
    two[: len(directions[:2])] = directions[:2]
    largest = two.gather(1, two.abs().argmax(1, keepdim=True))
    total = float(sizes.square().sum())
    return vectors @ (two * torch.where(largest < 0, -1.0, 1.0)).T, float(sizes[:2].square().sum()) / total if total else 1.0


def cosine(one: Tensor, other: Tensor) -> float | None:
    """None where one of them is 0."""
    sizes = float(one.norm() * other.norm())
    return float(one @ other) / sizes if sizes else None


def _pairs(labels: Sequence[str], vectors: Tensor) -> list[list[Any]]:
    return [[a, b, cosine(one, other)] for a, one in zip(labels, vectors, strict=True) for b, other in zip(labels, vectors, strict=True)]


def _neighbours(labels: Sequence[str], vectors: Tensor) -> list[str]:
    """A sentence about each model that has a direction: which of the others lies nearest to it."""
    said = []
    for number, label in enumerate(labels):
        found = [(cosine(vectors[number], own), labels[other]) for other, own in enumerate(vectors) if other != number]
        near, name = max(((value, name) for value, name in found if value is not None), default=(None, ""))
        if near is not None:
            said.append(f"{label} is most like {name} (cosine {near:.2f}).")
    return said


def _sums(labels: Sequence[str], vectors: Tensor) -> list[list[Any]]:
    """Of each model the two others whose sum lies nearest to it."""
    rows = []
    for number, label in enumerate(labels):
        pairs = combinations([other for other in range(len(labels)) if other != number], 2)
        found = [(cosine(vectors[number], vectors[one] + vectors[other]), one, other) for one, other in pairs]
        near, one, other = max(found, key=lambda pair: (pair[0] is not None, pair[0]))
        rows.append([label, labels[one], labels[other], near])
    return rows


def _said(label: str, norm: float, base: float) -> str:
    if norm == 0:
        return f"{label} sees the five prompts as the base does."
    return f"{label} sees the five prompts {norm:.3g} away from the base, whose own states have a norm of {base:.3g}."
