"""Instruction neurons: which neurons fire all through an instruction, which of them for every kind, and which of them tuning exchanged.

SPARCOM of Unveiling Instruction-Specific Neurons & Experts, 2025. What it is not: the choice of neurons to train, which is an adapter
(`methods/adapters/lape.py`), or its experts: mixtures are refused. Tags as in the project's notes: [P] read in the paper, [D] derived,
[O] our own choice.
"""

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.firing import firing, neurons_of
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

HELD = "held back"  # what the rows of no name are called
Sets = dict[str, list[Tensor]]  # by kind of instruction, of each layer (n,) which neurons belong to it

LAYERS = ["model", "kind", "layer", "share of neurons", "Jaccard with the base"]
KINDS = ["model", "kind", "neurons", "only here", "share only here", "Jaccard with the base"]


class InstructionNeurons(LooksAtRows, Inspection, title="Instruction neurons (SPARCOM)", paper="arXiv:2505.21191"):
    """See which neurons follow instructions, of one kind or of all, and how many of them tuning exchanged for others.

    $$p_j(I) = \\frac{1}{T} \\sum_{t=1}^T [\\, a_j(t) > 0 \\,], \\qquad S_k = \\{ j : \\bar p_j(k) \\ge \\varepsilon \\}, \\qquad
    J = \\frac{|S^0_k \\cap S^1_k|}{|S^0_k \\cup S^1_k|}$$

    a is what a neuron's activation function answers at the T tokens of an instruction. A neuron belongs to a kind of instruction if it
    fires on a share ε of the tokens [P], here on average over the kind's rows [O]. The authors compare six kinds (classification, code,
    questions, writing, mathematics, summaries): some neurons serve all kinds, others one alone, and tuning exchanges some [P]. Name a data
    set for each kind.

    J is 1 where the tuned model has the base's neurons and 0 where it has none of them; two empty sets are the same [O]. The paper's ε is
    not known to us, so it is a knob [O]: low, nearly all neurons belong to every kind; high, few to any.
    Paper: arXiv:2505.21191.
    """

    pictures = (
        Picture("by layer", "heat", "Where the base's instruction neurons stayed", x="kind", y="layer", value="Jaccard with the base"),
        Picture("by layer", "heat", "How many neurons belong to a kind", x="kind", y="layer", value="share of neurons"),
        Picture("kinds", "bars", "Neurons that serve one kind alone", x="kind", y="share only here"),
    )
    still = {"Jaccard with the base": 1.0}

    rows: str = knob(
        "", names="data", help="data sets, one for each kind of instruction, commas between them; empty takes what the runs held back"
    )
    threshold: float = knob(0.9, gt=0, le=1, step=0.01, help="share of an instruction's tokens on which a neuron of it fires at least")

    def looks_at(self) -> list[str]:
        return list(dict.fromkeys(name.strip() for name in self.rows.split(",") if name.strip())) or [""]

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} prompts of each kind once with each model, the base too; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        base = yield from self._sets(subject, subject.base, subject.refs[0].label)
        layers, kinds = _layers(subject.refs[0].label, base, base), _kinds(subject.refs[0].label, base, base)
        numbers, says = dict[str, dict[str, float]](), list[str]()
        for number, label in enumerate(subject.labels):
            own = yield from self._sets(subject, subject.tuned(number), label)
            if [len(part) for part in next(iter(own.values()))] != [len(part) for part in next(iter(base.values()))]:
                raise WorkbenchError(f"{label} has other MLPs than the base. Inspect models of the base's shape.")
            layers += _layers(label, own, base)
            kinds += _kinds(label, own, base)
            numbers[label] = {"Jaccard with the base": sum(jaccard(_all(own[kind]), _all(base[kind])) for kind in own) / len(own)}
            if (shared := generality(own)) is not None:
                numbers[label]["generality"] = shared
            says.append(_said(label, own, base, numbers[label]))
        return Finding(says, [Table("by layer", LAYERS, layers), Table("kinds", KINDS, kinds)], numbers)

    def _sets(self, subject: Subject, model: PreTrainedModel, label: str) -> Generator[Progress, None, Sets]:
        every, found = neurons_of(model, label), Sets()
        for name in self.looks_at():
            batches, shares = subject.evidence.prompts(name), list[list[Tensor]]()
            for done, batch in enumerate(batches):
                yield Progress(done, len(batches), f"prompts of {name or HELD} read by {label}")
                shares.append(firing(model, every, batch))
            found[name or HELD] = [torch.cat(own).mean(0) >= self.threshold for own in zip(*shares, strict=True)]
        return found


def jaccard(one: Tensor, other: Tensor) -> float:
    """What two sets have in common, as a share of what they have together; 1 for two that are empty."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def generality(sets: Sets) -> float | None:
    """The share of all instruction neurons that serve every kind; None with one kind, or without neurons."""
    every = torch.stack([_all(own) for own in sets.values()])
    return float(every.all(0).sum() / every.any(0).sum()) if len(every) > 1 and every.any() else None


def _all(layers: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(layers))


def _layers(label: str, own: Sets, base: Sets) -> list[list[Any]]:
    return [
        [label, kind, layer, float(part.double().mean()), jaccard(part, base[kind][layer])]
        for kind, parts in own.items()
        for layer, part in enumerate(parts)
    ]


def _kinds(label: str, own: Sets, base: Sets) -> list[list[Any]]:
    every = {kind: _all(parts) for kind, parts in own.items()}
    often = torch.stack(list(every.values())).sum(0)
    found = []
    for kind, part in every.items():
        alone, count = int((part & (often == 1)).sum()), int(part.sum())
        found.append([label, kind, count, alone, alone / count if count else None, jaccard(part, _all(base[kind]))])
    return found


def _said(label: str, own: Sets, base: Sets, numbers: dict[str, float]) -> str:
    if not any(part.any() for parts in (*own.values(), *base.values()) for part in parts):
        return f"No neuron of {label} or of the base fires that often; lower the threshold."
    many = [sum(int(part.sum()) for parts in sets.values() for part in parts) for sets in (own, base)]
    shared = f" {numbers['generality']:.0%} of its instruction neurons serve all kinds." if "generality" in numbers else ""
    return (
        f"{label} has {many[0]} instruction neurons, all kinds together, and the base {many[1]}; "
        f"{numbers['Jaccard with the base']:.0%} of them are the same.{shared}"
    )
