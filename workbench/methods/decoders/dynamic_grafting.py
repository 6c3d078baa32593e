"""Dynamic weight grafting: one model reads the text, and at chosen tokens with another model's weights.

What it is not: activation patching, which puts something in place of what was computed, or a merge: no weight is mixed, and none stays
swapped. Its conditions side by side, over many rows, are an inspection (`inspections/dynamic_grafting.py`). Tags as in the project's
notes: [R] read in the authors' code (toddnief/dynamic-weight-grafting), [O] our own choice.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.materials.lending import HEADS, Parts, lends, standing
from workbench.methods.contracts import Decoder, Speaker, Voice


class DynamicGrafting(Decoder, title="Dynamic weight grafting", paper="arXiv:2506.20746"):
    """See at which words and in which layers the tuned model knows what it learnt: the base reads with its weights there alone.

    $$h_i = f_{\\theta(i)}(x_i, K_{<i}, V_{<i}), \\qquad \\theta(i) = \\theta_1\\ \\text{where lent, else}\\ \\theta_0$$

    The text is read token by token, and what was read keeps the keys and values that it was computed with [R]. If tuned weights at the
    entity are enough for the tuned answer, it was extracted there; if they are at the last token, it is recalled there. The last token
    is the one whose next is drawn: in an answer that grows each newest token in turn, and what was last before stays as it was read [O].

    All parts are all weights of the layers, the embeddings too if the layers begin with the first, and the final norm if they go to the
    end [O]. The head is asked at the last token only, so the authors' always and last_token are one here: on [R]. A head that is tied
    to the embeddings is one tensor with them and is lent with them, and they with it.

    The first model of a comparison is the base. Reversed, the tuned model reads and gets the base's weights: what is then lost?
    Paper: arXiv:2506.20746.
    """

    neutral = {"positions": "all", "parts": "all", "head": True}

    positions: Literal["none", "last", "entity", "entity and last", "the rest", "all"] = knob(
        "last", help="the tokens that are read with lent weights; the rest is what is neither entity nor last"
    )
    entity: str = knob("", help="the words of the prompt that are the entity, as they stand there; their first place counts")
    parts: Parts = knob("all", help="which weights are lent")
    first_layer: int = knob(0, ge=0, help="first layer whose weights are lent; 0 is the first of all")
    last_layer: int = knob(-1, ge=-1, help="last layer whose weights are lent; -1 is the last of all")
    head: bool = knob(False, help="whether the head is lent too, at the last token")
    reverse: bool = knob(False, help="the tuned model reads, with the base's weights at these tokens")

    def costs(self) -> str:
        return "The prompt is read token by token: as many passes as it has tokens, once for each model."

    def begin(self, own: Speaker, base: Speaker) -> Voice:
        mistakes = []
        if self.by_entity() and not self.entity.strip():
            mistakes.append(f"Dynamic weight grafting: positions is {self.positions!r}, and no entity is named. Write its words there.")
        if -1 < self.last_layer < self.first_layer:
            mistakes.append(f"Dynamic weight grafting: no layer is from {self.first_layer} to {self.last_layer}. Swap the two.")
        if mistakes:
            raise WorkbenchError(" ".join(mistakes))
        reader, lender = (own, base) if self.reverse else (base, own)
        return Grafted(self, reader, lender)

    def by_entity(self) -> bool:
        return self.positions in ("entity", "entity and last", "the rest")

    def at(self, in_entity: bool, last: bool) -> bool:
        """Whether weights are lent at a token."""
        match self.positions:
            case "last":
                return last
            case "entity":
                return in_entity
            case "entity and last":
                return in_entity or last
            case "the rest":
                return not (in_entity or last)
        return self.positions == "all"

    def lends(self, name: str) -> bool:
        """Whether the parameter of this name is lent, where any is; the head is not, which has a knob of its own."""
        return lends(name, self.parts, self.first_layer, self.last_layer)


class Grafted(Voice):
    """The model of `reader`, which has a cache of its own for it, with the weights of `lender` at the tokens that `how` names."""

    def __init__(self, how: DynamicGrafting, reader: Speaker, lender: Speaker):
        self.how, self.reader, self.lender = how, reader, lender
        self.read: list[int] = []
        self.entity = range(0)
        self.said: Tensor | None = None

    def logits(self, tokens: Sequence[int]) -> Tensor:
        if self.said is None or self.read != list(tokens[: len(self.read)]):
            self.reader, self.read = self.reader.anew(), []
            self.entity = standing(self.how.entity, self.reader.texts(tokens)) if self.how.by_entity() else range(0)
        for place in range(len(self.read), len(tokens)):
            with self._lent(place in self.entity, place == len(tokens) - 1):
                self.said = self.reader.logits(tokens[: place + 1])
        self.read = list(tokens)
        assert self.said is not None, "somebody is asked what comes after at least one token"
        return self.said

    def _lent(self, in_entity: bool, last: bool) -> AbstractContextManager[None]:
        body, head = self.how.at(in_entity, last), last and self.how.head
        if not (body or head):
            return nullcontext()
        return self.reader.lent(self.lender, lambda name: (body and self.how.lends(name)) or (head and name.startswith(HEADS)))
