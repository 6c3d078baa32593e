"""Neuron contributions: how much of each MLP's answer is each neuron's, in which neurons tuning changed that, and which foretell mistakes.

H-Neurons: On the Existence, Impact, and Origin of Hallucination-Associated Neurons in LLMs, 2025. What it is not: the turning up or down of
such neurons while a model answers (`methods/decoders/neuron_strength.py`), or the choice of neurons to train (`methods/adapters/lape.py`).
Tags as in the project's notes: [P] abstract, [R] read in the authors' code (thunlp/H-Neurons), [D] derived, [O] our own choice.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.firing import contributions, neurons_of
from workbench.materials.logistic import area, foretold, sparse_logistic
from workbench.materials.packing import IGNORED
from workbench.materials.subject import Subject
from workbench.methods.contracts import Inspection

MOST = 20  # neurons that are shown of each model
RANKS = {"strongest 1 %": 0.01, "next 9 %": 0.1, "next 40 %": 0.5, "weakest 50 %": 1.0}  # up to which share of a layer's neurons

LAYERS = ["model", "layer", "change", "share of the strongest 1 %"]
GROUPS = ["model", "layer", "neurons by their part in the base", "share of the layer's change"]
NEURONS = ["model", "layer", "neuron", "part in the base", "part", "change"]
FOUND = ["model", "layer", "neuron", "weight", "part in false answers", "part in true answers"]
TRUE, FALSE = {"true", "yes", "1", "1.0", "right", "correct"}, {"false", "no", "0", "0.0", "wrong", "incorrect"}
FEWEST = 5  # rows of each kind, for a search


class HNeurons(LooksAtRows, Inspection, title="Neuron contributions (CETT)", paper="arXiv:2512.01797"):
    """See which neurons make up the answers, and which of them tuning made say more or less.

    $$\\mathrm{CETT}_j = \\frac{1}{T} \\sum_t \\frac{|a_j(t)| \\, \\lVert W_{\\mathrm{down}}[:, j] \\rVert}
    {\\lVert W_{\\mathrm{down}}\\, a(t) \\rVert}$$

    a is what the matrix at an MLP's end reads, so a_j times the j-th column is what neuron j adds, and CETT its length beside that of the
    whole, at the T tokens of a row's own answer [R]. Parts that point in other directions cancel, so over all neurons they add up to 1 or
    more, unless the matrix has a bias [D]. The rows' means are averaged [O].

    The change of a layer is the sum of all its neurons' changes as a share of what the base's add up to [O]. Where the strongest neurons
    have most of the change, tuning used what was there; where the weak ones do, it woke others.

    If the rows say which answers are right, those neurons are looked for that foretell false ones: the features of a logistic regression
    that is held to few of them, in which a false answer's tokens are the one kind, and true answers' and all other tokens the other;
    neurons with a weight above 0 are the H-neurons [R]. The authors find less than one in a thousand, which are there before tuning and
    make a model comply too much where they are turned up [P], from about a thousand answers of each kind that the model gave itself ten
    times over [R]; with few rows none is found. How well left-out rows are foretold says whether to believe it [O].
    Paper: arXiv:2512.01797.
    """

    pictures = (
        Picture("by layer", "lines", "In which layers neurons changed their part", x="layer", y="change"),
        Picture(
            "groups", "heat", "Which neurons changed their part", x="neurons by their part in the base", y="layer",
            value="share of the layer's change",
        ),
    )  # fmt: skip
    still = {"change": 0.0}

    column: str = knob(
        "correct", help="column that says whether a row's answer is right, true or false, if there is one", label="column of right answers"
    )

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} rows once with each model, the base too, and three times if they say which answers are right."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        false = self._false(subject)
        base = means((yield from self._parts(subject, subject.base, subject.refs[0].label)))
        layers, groups, neurons = list[list[Any]](), list[list[Any]](), list[list[Any]]()
        numbers, says = dict[str, dict[str, float]](), list[str]()
        for number, label in enumerate(subject.labels):
            own = means((yield from self._parts(subject, subject.tuned(number), label)))
            if [part.shape for part in own] != [part.shape for part in base]:
                raise WorkbenchError(f"{label} has other MLPs than the base. Inspect models of the base's shape.")
            found = [_layer(one, before) for one, before in zip(own, base, strict=True)]
            layers += [[label, layer, *row] for layer, row in enumerate(found)]
            groups += [[label, layer, *row] for layer, before in enumerate(base) for row in by_rank((own[layer] - before).abs(), before)]
            neurons += [[label, *row] for row in _most(own, base)]
            moved = sum(float((one - before).abs().sum()) for one, before in zip(own, base, strict=True))
            whole = sum(float(before.sum()) for before in base)
            numbers[label] = {"change": moved / whole if whole else 0.0}
            says.append(_said(label, numbers[label]["change"], [row[0] for row in found]))
        tables = [Table("by layer", LAYERS, layers), Table("groups", GROUPS, groups), Table("neurons that changed most", NEURONS, neurons)]
        foretelling = yield from self._foretelling(subject, false)
        for label, own in foretelling.items():
            says.append(own.said(label))
            if label in numbers:
                numbers[label] |= {"H-neurons": own.count, "false answers foretold (AUROC)": own.foretold}
        if any(own.strongest for own in foretelling.values()):
            tables.append(Table("H-neurons", FOUND, [[label, *row] for label, own in foretelling.items() for row in own.strongest]))
        return Finding(says, tables, numbers)

    def _foretelling(self, subject: Subject, false: Tensor | None) -> Generator[Progress, None, dict[str, "HFound"]]:
        """Of the base and each tuned model; nothing where rows do not say which answers are false."""
        if false is None:
            return {}
        found = {subject.refs[0].label: (yield from self._search(subject, subject.base, subject.refs[0].label, false))}
        for number, label in enumerate(subject.labels):
            found[label] = yield from self._search(subject, subject.tuned(number), label, false)
        return found

    def _parts(self, subject: Subject, model: PreTrainedModel, label: str, answers: bool = True) -> Generator[Progress, None, list[Tensor]]:
        """Of each layer (N, n), by row, at the answers' tokens or at all others."""
        every, batches, found = neurons_of(model, label), subject.evidence.batches(self.rows), list[list[Tensor]]()
        for done, batch in enumerate(batches):
            yield Progress(done, len(batches), f"rows read by {label}")
            learnt = batch["labels"] != IGNORED
            found.append(contributions(model, every, batch, learnt if answers else ~learnt & batch["attention_mask"].bool()))
        return [torch.cat(own) for own in zip(*found, strict=True)]

    def _false(self, subject: Subject) -> Tensor | None:
        """(N,) whose answer is false; None where no row says.

        Raises:
            WorkbenchError: a row says something else than true or false, or few say one of the two.
        """
        told = [example.meta.get(self.column) for example in subject.examples[self.rows]]
        if all(value is None for value in told):
            return None
        plain = [str(value).strip().lower() for value in told]
        odd = next((text for text in plain if text not in TRUE | FALSE), None)
        if odd is not None:
            raise WorkbenchError(f"The column {self.column} says {odd!r} and not true or false. Name another column, or none.")
        false = torch.tensor([text in FALSE for text in plain])
        if min(int(false.sum()), int((~false).sum())) < FEWEST:
            raise WorkbenchError(
                f"The column {self.column} calls fewer than {FEWEST} answers true, or false, too few to find a neuron by. Read more rows, "
                "or name no column."
            )
        return false

    def _search(self, subject: Subject, model: PreTrainedModel, label: str, false: Tensor) -> Generator[Progress, None, "HFound"]:
        layers = yield from self._parts(subject, model, label)
        spots = [(layer, neuron) for layer, own in enumerate(layers) for neuron in range(own.shape[1])]
        answers, others = torch.cat(layers, 1), torch.cat((yield from self._parts(subject, model, label, answers=False)), 1)
        yield Progress(0, 1, f"neurons of {label} searched")
        weights, _ = sparse_logistic(torch.cat([answers, others]), torch.cat([false, torch.zeros_like(false)]))
        best = [place for place in weights.argsort(descending=True, stable=True)[:MOST].tolist() if weights[place] > 0]
        parts = [answers[kind].mean(0) for kind in (false, ~false)]
        strongest = [[*spots[place], float(weights[place]), *(float(mean[place]) for mean in parts)] for place in best]
        return HFound(int((weights > 0).sum()), len(weights), strongest, area(foretold(answers, false, FEWEST), false))


@dataclass(frozen=True)
class HFound:
    """How many neurons foretell false answers, the strongest as rows of `FOUND`, and how well answers that were left out are foretold."""

    count: int
    neurons: int
    strongest: list[list[Any]]
    foretold: float

    def said(self, label: str) -> str:
        names = ", ".join(f"{layer}:{neuron}" for layer, neuron, *_ in self.strongest)
        turned = f" To turn the strongest while a model answers, give the decoder Neuron strength these: {names}." if names else ""
        return (
            f"{self.count} of the {self.neurons} neurons of {label} were picked to foretell false answers; of two that were left out, one "
            f"false and one true, such neurons tell in {self.foretold:.0%} of cases which is which (chance: 50%).{turned}"
        )


def means(layers: list[Tensor]) -> list[Tensor]:
    """(n,) float64 of each layer, over the rows."""
    return [own.double().mean(0) for own in layers]


def by_rank(change: Tensor, before: Tensor) -> list[list[Any]]:
    """Of each group of a layer's neurons, by what they contribute before, its share of the change; None where nothing changed."""
    ordered, total = change[before.argsort(descending=True, stable=True)], float(change.sum())
    edges = [0, *(max(1, round(share * len(change))) for share in RANKS.values())]
    parts = [float(ordered[start:stop].sum()) for start, stop in pairwise(edges)]
    return [[name, part / total if total else None] for name, part in zip(RANKS, parts, strict=True)]


def _layer(own: Tensor, before: Tensor) -> list[float | None]:
    """How much of a layer changed, and how much of it lies with its strongest neurons now; None for a layer that says nothing."""
    few = max(1, round(RANKS["strongest 1 %"] * len(own)))
    found = ((own - before).abs().sum(), before.sum()), (own.topk(few).values.sum(), own.sum())
    return [float(part / whole) if whole else None for part, whole in found]


def _most(own: Sequence[Tensor], base: Sequence[Tensor]) -> list[list[Any]]:
    """Layer, neuron, its part before and now and the difference, of those that changed most."""
    spots = [(layer, neuron) for layer, part in enumerate(base) for neuron in range(len(part))]
    change = torch.cat(list(own)) - torch.cat(list(base))
    found = [spots[place] for place in change.abs().argsort(descending=True, stable=True)[:MOST].tolist()]
    told = [(layer, neuron, float(base[layer][neuron]), float(own[layer][neuron])) for layer, neuron in found]
    return [[layer, neuron, before, now, now - before] for layer, neuron, before, now in told]


def _said(label: str, change: float, layers: Sequence[float | None]) -> str:
    most, layer = max((value or 0.0, -layer) for layer, value in enumerate(layers))
    if not change:
        return f"Each neuron of {label} has the part in these answers that it has in the base."
    return f"The neurons of {label} changed their part in these answers by {change:.1%}, most in layer {-layer} ({most:.1%})."
