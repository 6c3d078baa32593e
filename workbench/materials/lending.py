"""Weights that one model lends another while it reads: which are meant, at which tokens an entity stands, and a text read in stretches.

What it is not: the swap itself (`speakers.py`), or which tokens are chosen (`methods/decoders/dynamic_grafting.py`,
`methods/inspections/dynamic_grafting.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import groupby
from typing import Literal

from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.models import layer_of
from workbench.materials.voice import Speaker

Parts = Literal["all", "attention", "mlp", "queries", "keys", "values", "attention output", "attention output and mlp"]
_MLP = {"mlp", "feed_forward", "block_sparse_moe"}
PARTS: dict[str, set[str]] = {
    "attention": {"self_attn", "self_attention", "attn", "attention"},
    "mlp": _MLP,
    "queries": {"q_proj"},
    "keys": {"k_proj"},
    "values": {"v_proj"},
    "attention output": {"o_proj"},
    "attention output and mlp": {"o_proj", *_MLP},
}
"""The words in the names of the weights that a part is made of; where q, k and v are one matrix they cannot be told apart."""
BEHIND = ("norm", "ln_f")  # in the names of what stands behind the last layer and is not the head
HEADS = ("lm_head.", "embed_out.")


def lends(name: str, parts: Parts, first: int, last: int) -> bool:
    """Whether the parameter of this name is lent with these parts of the layers `first` to `last`, −1 for the last of all; no head is."""
    layer, whole = layer_of(name), parts == "all"
    if layer is None:
        behind = any(word in name for word in BEHIND)
        return whole and not name.startswith(HEADS) and (last == -1 if behind else first == 0)
    words = name.split(".")
    chosen = whole or (not PARTS[parts].isdisjoint(words) and not any("norm" in word for word in words))
    return chosen and first <= layer and (last == -1 or layer <= last)


def standing(words: str, texts: Sequence[str]) -> range:
    """The places of the tokens that the words lie in, where they stand first; `texts`: what each token adds to the text."""
    words = words.strip()
    start = "".join(texts).find(words)
    if start < 0:
        raise WorkbenchError(f"The entity {words!r} does not stand in the prompt. Write it as it stands there, capital letters too.")
    stop, places, end = start + len(words), list[int](), 0
    for place, text in enumerate(texts):
        begin, end = end, end + len(text)
        if begin < stop and (end > start or begin == start):  # a token that adds nothing is the first half of what follows
            places.append(place)
    return range(places[0], places[-1] + 1)


def read_lent(reader: Speaker, lender: Speaker, tokens: Sequence[int], lent: Sequence[Callable[[str], bool] | None]) -> Tensor:
    """(V,) what the reader says after all tokens, each read with the lender's weights that `lent` names for it, or its own for None.

    Tokens in a row that name the same are read at once, and what was read keeps the keys and values that it was computed with; so it says
    what it would say token by token.
    """
    voice, end, said = reader.anew(), 0, None
    for named, stretch in groupby(lent):
        end += len(list(stretch))
        with nullcontext() if named is None else voice.lent(lender, named):
            said = voice.logits(tokens[:end])
    assert said is not None, "there is at least one token"
    return said
