"""Trainable tokens: the rows of a few tokens in the embeddings and in the head. Not here: how rows of a matrix are trained
(`materials/region.py`), and what is saved of them (`materials/tokens.py`).

No paper: peft's adapter of that name. Tags as in the project's notes: [R] read in peft 0.21.2 (tuners/trainable_tokens), [V] measured by
us, [D] derived, [O] our own choice.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.informed import Looking
from workbench.core.method import knob
from workbench.core.targeted import Parted
from workbench.materials.evidence import Evidence, Learnt
from workbench.materials.region import cost
from workbench.materials.tokens import TokensAttachment, passing, tables
from workbench.methods.contracts import Cost, Informed


class TrainableTokens(Parted, Looking, Informed, title="Trainable tokens"):
    """Train what the model knows of a few tokens, which are their rows of the embeddings, and hold everything else still.

    $$E'_t = E_t + \\Delta_t \\;\\text{ for } t \\in S, \\qquad E'_t = E_t \\;\\text{ for all others}$$

    For words that are new to a model, special tokens that it was never trained on, or a few names: each costs one row, and a text without
    any of them is read as before. Where the head is tied to the embeddings, the row that reads a token is the one that says it [R].
    Where the head has rows of its own, they move too: with the embeddings alone, which is peft's way [R], no token becomes any likelier to
    be said in a text where none of them stands [D]. Without `head` that is how it is.

    A word is looked up as it stands at the start of a text and as it stands after a space, which are two tokens in most vocabularies. One
    that is no token of its own is made of several, and other words have these too: all of them move, and the run's log says so. Write a
    token's id instead to be exact. The token must be there: this adds none to a vocabulary.

    Saved as peft's TRAINABLE_TOKENS, a few rows that stand in the place of the base's. peft copies the whole table at each step to put
    them in [R]; here they move in the table itself, and their values are float32 whatever the model is [O]. A gradient of the whole
    table is made all the same, and let go at once.
    """

    stored = 4
    over_rounded = True  # embeddings and head are never rounded

    tokens: str = knob("", help="words, special tokens or ids, commas between them; empty takes every token of the rows looked at")
    head: bool = knob(True, help="whether the rows that say them move too, in a head that is not tied to the embeddings", more=True)

    def looks_at(self) -> list[str]:
        return [] if self._words() else [""]

    def study(self, model: PreTrainedModel, evidence: Evidence) -> Generator[Progress, None, Learnt]:
        """The ids of each text, as it was written and after a space; where there is none, under "" which of all tokens the rows have."""
        found, words = dict[str, torch.Tensor](), self._words()
        for number, word in enumerate(words):
            yield Progress(number, len(words), "words looked up")
            for text, ids in spelt(word, evidence.encode).items():
                found[text] = torch.tensor(ids, dtype=torch.long)
        if not words:
            found[""] = torch.zeros(self._rows(model), dtype=torch.bool)
            found[""][[token for row in evidence.rows[""] for token in row.ids]] = True
        return found

    def attach(self, model: PreTrainedModel, seed: int, learnt: Learnt) -> TokensAttachment:
        ids = sorted({token for text, own in learnt.items() for token in (own if text else own.nonzero()[:, 0]).tolist()})
        most = self._rows(model)
        if not ids or ids[-1] >= most:
            which = f"There is no token {ids[-1]}: this model has {most:,}, counted from 0." if ids else "No token was found."
            raise WorkbenchError(f"{which} Write other words or ids under tokens, such as a word from your rows.")
        split = [_warning(text, own.tolist()) for text, own in learnt.items() if text and len(own) > 1]
        return TokensAttachment(model, ids, self.head, split)

    def cost(self, model: PreTrainedModel) -> Cost:
        """As if every byte of a word were a token: only a tokenizer knows how many there are."""
        shapes = {f"{table}.weight": model.get_parameter(f"{table}.weight").shape for table in tables(model, self.head)}
        rows = min(self._most(), self._rows(model))
        found = cost(model, {name: rows * width for name, (_, width) in shapes.items()})
        return replace(found, gathered=passing(model, self.head), studied=8 * rows if self._words() else rows)

    def costs(self) -> str:
        return "Each step makes a gradient of the whole table of embeddings, of which only the rows of these tokens are kept."

    def _rows(self, model: PreTrainedModel) -> int:
        """How many tokens there are."""
        return min(model.get_parameter(f"{table}.weight").shape[0] for table in tables(model, self.head))

    def _words(self) -> list[str]:
        return [word.strip() for word in self.tokens.split(",") if word.strip()]

    def _most(self) -> float:
        """How many tokens the words can be: one an id, and of a word, which is looked up twice, a byte each and a space before it [D]."""
        found = sum(1 if word.isdecimal() else 2 * len(word.encode()) + 3 for word in self._words())
        return found or float("inf")


def spelt(word: str, encode: Callable[[str], Sequence[int]]) -> dict[str, list[int]]:
    """The ids of a word at the start of a text and after a space, each by what was looked up; the one alone where the space is a token of
    its own there, and nothing is looked up of an id."""
    if word.isdecimal():
        return {word: [int(word)]}
    first, inside = list(encode(word)), list(encode(f" {word}"))
    if inside[-len(first) :] == first:
        return {word: first}
    return {word: first, f" {word}": inside}


def _warning(text: str, ids: list[int]) -> str:
    which = ", ".join(map(str, ids))
    return f"{text!r} is no token of its own: it is made of {len(ids)} ({which}), which all move, for every other word that has them too."
