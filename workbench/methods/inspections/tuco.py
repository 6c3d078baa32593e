"""Tuning contribution: how much of what the blocks add to the hidden state is the tuning's doing, answer by answer and layer by layer.

TuCo: Measuring the Contribution of Fine-Tuning to Individual Responses of LLMs, ICML 2025. What it is not: a measure of how far the weights
moved (`weight_change.py`) or the distributions (`kl_from_base.py`): a long way may make no difference to this answer. How two models are
read block by block is `materials/walking.py`.
Tags as in the project's notes: [P] read in the paper, [D] derived, [O] our own choice.
"""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.picture import Finding, Picture
from workbench.materials.answered import excerpt
from workbench.materials.evidence import Batch
from workbench.materials.models import hidden_states
from workbench.materials.packing import IGNORED
from workbench.materials.subject import Subject
from workbench.materials.walking import alongside, paired
from workbench.methods.contracts import Inspection

ROWS = ["model", "row", "question", "answer", "TuCo", "TuCo over the answer"]
LAYERS = ["model", "layer", "tuning adds (norm)", "the base adds (norm)", "share of tuning"]


class TuCo(LooksAtRows, Inspection, title="Tuning contribution (TuCo)", paper="arXiv:2506.23423"):
    """See how much of each answer comes from tuning, and in which layers it comes in.

    $$\\mathrm{TuCo} = \\frac{\\lVert \\sum_\\ell \\mathrm{FTC}_\\ell \\rVert}
    {\\lVert \\sum_\\ell \\mathrm{PTC}_\\ell \\rVert + \\lVert \\sum_\\ell \\mathrm{FTC}_\\ell \\rVert}, \\qquad
    \\mathrm{PTC}_\\ell = f^0_\\ell(x_\\ell), \\quad \\mathrm{FTC}_\\ell = f^1_\\ell(x_\\ell) - f^0_\\ell(x_\\ell)$$

    x is the tuned model's hidden state on its way through the layers, f¹ what a block of the tuned model adds to it and f⁰ what the same
    block of the base would have added to the same state. The two parts add up to what the tuned model does, exactly [P]. TuCo is 0 where
    tuning adds nothing and 1 where all that is added is tuning's; a model in which the base's blocks are undone and nothing put in their
    place stands at 1/2 [D].

    The number is read at the end of the question, where the answer begins [P], and besides at each token of the row's own answer [O]. It is
    lower where a jailbreak succeeds than where it fails [P]: rows with a low number are those on which tuning has little say. Embeddings,
    final norm and head are no part of it [D]. Paper: arXiv:2506.23423.
    """

    pictures = (
        Picture("by layer", "lines", "Where tuning comes in", x="layer", y="share of tuning"),
        Picture("by layer", "lines", "How much tuning adds", x="layer", y="tuning adds (norm)"),
        Picture("by place", "lines", "How much of the answer is tuning's, token by token", x="token of the answer", y="TuCo"),
    )
    still = {"TuCo": 0.0, "TuCo over the answer": 0.0}

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} rows once with each tuned model and the base beside it; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        batches, examples = subject.evidence.batches(self.rows), subject.examples[self.rows]
        row, place = _places(batches)
        numbers, rows, layers, places = dict[str, dict[str, float]](), list[list[Any]](), list[list[Any]](), list[list[Any]]()
        for number, label in enumerate(subject.labels):
            paired(subject.tuned(number), subject.base, label)
            found = list[tuple[Tensor, Tensor]]()
            for done, batch in enumerate(batches):
                yield Progress(number * len(batches) + done, len(subject.labels) * len(batches), "rows read")
                found.append(contributions(subject.tuned(number), subject.base, batch))
            share, norms = torch.cat([own for own, _ in found]), torch.cat([own for _, own in found], 2)
            own = [share[row == at].tolist() for at in range(len(examples))]  # of each row, token by token
            begins, whole = [each[0] for each in own], [sum(each) / len(each) for each in own]
            said = [[excerpt(example.question()), excerpt(example.answer())] for example in examples]
            rows += [[label, at + 1, *said[at], begins[at], whole[at]] for at in range(len(examples))]
            layers += [[label, *told] for told in _by_layer(norms[:, :, place == 0].mean(2))]
            places += [[label, at + 1, float(share[place == at].mean())] for at in range(int(place.max()) + 1)]
            numbers[label] = {"TuCo": sum(begins) / len(begins), "TuCo over the answer": sum(whole) / len(whole)}
        by_place = Table("by place", ["model", "token of the answer", "TuCo"], places)
        tables = [Table("by row", ROWS, rows), Table("by layer", LAYERS, layers), by_place]
        return Finding([_said(label, own, layers) for label, own in numbers.items()], tables, numbers)


@torch.no_grad()
def contributions(tuned: PreTrainedModel, base: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Where a learnt token comes next, n times: (n,) TuCo, and (2, L, n) norms of what the base's blocks add and what tuning does."""
    says = batch["labels"][:, 1:] != IGNORED
    added = list[Tensor]()

    def meet(layer: int, before: Tensor, own: Tensor, by_base: Tensor) -> None:
        added.append(torch.stack([by_base - before, own - by_base])[:, :, :-1][:, says].double())

    with alongside(tuned, base, meet):
        hidden_states(tuned, batch)
    return _share(sum(added, torch.zeros(())).norm(dim=-1)).cpu(), torch.stack([own.norm(dim=-1) for own in added], 1).cpu()


def _share(norms: Tensor) -> Tensor:
    """Of (2, …) norms of the base's part and of tuning's, the share of the second; 0 where nothing is added."""
    return norms[1] / norms.sum(0).clamp(min=torch.finfo(norms.dtype).tiny)


def _by_layer(norms: Tensor) -> list[list[Any]]:
    """Of (2, L) norms a row for each layer, as `LAYERS` goes on behind the model."""
    told = zip(norms[1].tolist(), norms[0].tolist(), _share(norms).tolist(), strict=True)
    return [[layer, *values] for layer, values in enumerate(told)]


def _places(batches: list[Batch]) -> tuple[Tensor, Tensor]:
    """(N,) each, of all learnt tokens: the number of its row, and of the token in the row's answers, from 0."""
    learnt = [(batch["labels"][:, 1:] != IGNORED).cpu() for batch in batches]
    rows, places, before = list[Tensor](), list[Tensor](), 0
    for own in learnt:
        rows.append(own.nonzero()[:, 0] + before)
        places.append((own.cumsum(1) - 1)[own])
        before += len(own)
    return torch.cat(rows), torch.cat(places)


def _said(label: str, numbers: dict[str, float], layers: list[list[Any]]) -> str:
    own = [row for row in layers if row[0] == label]
    if not any(row[2] for row in own):
        return f"Tuning adds nothing to what {label} says on these rows: its blocks do what the base's do."
    most = max(own, key=lambda row: row[4])
    return (
        f"Of what the blocks of {label} add where an answer begins, tuning has a share of {numbers['TuCo']:.1%} "
        f"({numbers['TuCo over the answer']:.1%} over the whole answer); the share is largest in layer {most[1]} ({most[4]:.1%})."
    )
