"""Layer patching: what becomes of the tuned model's answers where some of its states, or some of its layers, are the base's.

Analysing Moral Bias in Finetuned LLMs through Mechanistic Interpretability, 2025, looks in this way for the layers of one bias; its measure
is a rating of paired stories, and the one here, the row's own answer, serves any data set [O]. What it is not: a merge, or dynamic
grafting (`methods/decoders/dynamic_grafting.py`), which lends weights while the model speaks.
Tags as in the project's notes: [P] read in the paper, [D] derived, [O] our own choice.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.answered import judged
from workbench.materials.evidence import Batch
from workbench.materials.packing import IGNORED
from workbench.materials.subject import Subject
from workbench.materials.walking import alongside, left_by_blocks, paired, replacing
from workbench.methods.contracts import Inspection

AT_ONCE = 4  # rows; all their states of the base are kept
WORDS = ("the question", "its end", "the answer", "all")
STATES, LAYERS = ["words", "layer", "restored"], ["layers put back", "layer", "restored"]
Patching = AbstractContextManager[None]


@dataclass(frozen=True)
class Place:
    """Where the base is put back: what a layer leaves at some words, or a layer alone or with its neighbours."""

    kind: Literal["states", "layers"]
    what: str
    layer: int


class LayerPatching(LooksAtRows, Inspection, title="Layer patching", paper="arXiv:2510.12229"):
    """See in which layers, and at which words, tuning decides what the model answers: put the base back there and look what is undone.

    $$\\mathrm{restored}(S) = \\frac{\\sum_n (m^S_n - m^1_n)(m^0_n - m^1_n)}{\\sum_n (m^0_n - m^1_n)^2}$$

    m is the mean log-probability of a row's own answer [O]: m⁰ by the base, m¹ by the tuned model, and m^S by the tuned model with the base
    put back at S. 0 says that nothing is undone, 1 that all is. It is the slope of what is undone over what tuning did, so rows on which
    the two models hardly differ hardly count [O].

    Two things are put back. States: what a layer leaves at some words is what it leaves in the base [P]. Put back at all words, it makes
    the layers up to that one the base's and leaves those behind it tuned [D]: where the number climbs from layer to layer, tuning matters,
    and behind the last layer all is restored if both share norm and head. Layers: one layer or a few in a row have the base's weights and
    read what the tuned model gives them, which tells apart layers that states cannot [O]. Below 0, putting back does more of what tuning
    did, and above 1 more than undo it. The authors find that patching few layers undoes the bias that they look at [P].
    Paper: arXiv:2510.12229.
    """

    pictures = (
        Picture("states", "heat", "States of the base put back", x="words", y="layer", value="restored"),
        Picture("layers", "heat", "Layers of the base put back", x="layers put back", y="layer", value="restored"),
    )
    still = {"what tuning did": 0.0}

    most_rows: int = knob(16, ge=1, le=100_000, help="at most so many rows, drawn at random", label="rows read", log=True)
    window: int = knob(3, ge=2, le=100, help="how many neighbouring layers are put back together, besides each alone", unit="layers")

    def costs(self) -> str:
        return f"Reads up to {self.most_rows} rows some six times for each layer, with each tuned model and the base; nothing is generated."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        found: dict[str, list[list[Any]]] = {"states": [], "layers": []}
        numbers, says = dict[str, dict[str, float]](), list[str]()
        for number, label in enumerate(subject.labels):
            did, undone = yield from self._tried(subject, number)
            told = {place: restored(own, did) for place, own in undone.items()}
            for place, value in told.items():
                found[place.kind].append([label, place.what, place.layer, value])
            numbers[label] = {"what tuning did": -float(did.mean())}
            says.append(_said(label, numbers[label]["what tuning did"], told))
        tables = [Table("states", ["model", *STATES], found["states"]), Table("layers", ["model", *LAYERS], found["layers"])]
        return Finding(says, tables, numbers)

    def _tried(self, subject: Subject, number: int) -> Generator[Progress, None, tuple[Tensor, dict[Place, Tensor]]]:
        """(N,) of each row how much likelier its answer is to the base, and how much likelier each patch makes it."""
        batches, tuned, base = subject.evidence.batches(self.rows, AT_ONCE), subject.tuned(number), subject.base
        places = self._places(len(paired(tuned, base, subject.labels[number])))
        change, undone = list[Tensor](), {place: list[Tensor]() for place in places}
        for done, batch in enumerate(batches):
            before, after, states = judged(tuned, batch)[0], judged(base, batch)[0], left_by_blocks(base, batch)
            change.append(after - before)
            for tried, place in enumerate(places):
                made = (number * len(batches) + done) * len(places) + tried
                yield Progress(made, len(subject.labels) * len(batches) * len(places), "patches tried")
                with self._patch(place, tuned, base, batch, states):
                    undone[place].append(judged(tuned, batch)[0] - before)
        return torch.cat(change), {place: torch.cat(own) for place, own in undone.items()}

    def _places(self, layers: int) -> list[Place]:
        """Everything that is tried, states before layers."""
        states = [Place("states", words, layer) for words in WORDS for layer in range(layers)]
        return states + [Place("layers", name, layer) for name in ("this one", self._together()) for layer in range(layers)]

    def _together(self) -> str:
        return f"{self.window} around it"

    def _patch(self, place: Place, tuned: PreTrainedModel, base: PreTrainedModel, batch: Batch, states: list[Tensor]) -> Patching:
        if place.kind == "states":
            return replacing(tuned, {place.layer: states[place.layer]}, words_of(batch, place.what))
        width = self.window if place.what == self._together() else 1
        first = place.layer - width // 2
        return alongside(tuned, base, lambda layer, before, own, by_base: by_base, range(first, first + width))


def words_of(batch: Batch, words: str) -> Tensor:
    """(B, T) which tokens are meant; a question ends where the first token that is learnt comes next."""
    learnt = batch["labels"] != IGNORED
    end = learnt.int().argmax(1, keepdim=True) - 1
    place = torch.arange(learnt.shape[1], device=learnt.device)[None]
    return {"the question": place < end, "its end": place == end, "the answer": place > end}.get(words, torch.ones_like(learnt))


def restored(undone: Tensor, change: Tensor) -> float | None:
    """Slope through 0 of what a patch did to each row over what the base differs by; None where the models do not differ."""
    square = float(change @ change)
    return float(undone @ change) / square if square else None


def _said(label: str, did: float, told: dict[Place, float | None]) -> str:
    alone = {place.layer: value for place, value in told.items() if place.what == "this one" and value is not None}
    if not alone:
        return f"{label} gives these answers as likely as the base does, so there is nothing to restore."
    most = max(alone, key=lambda layer: alone[layer])
    return (
        f"Tuning made these answers {did:+.3g} nats a token likelier to {label}; of that the base's layer {most} in place of the tuned one "
        f"undoes {alone[most]:.0%}, more than any other alone."
    )
