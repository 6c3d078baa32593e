"""Contrastive decoding between a model and its base: what the tuning made likelier is made likelier still.

It joins two ideas: contrastive decoding (Li et al., ACL 2023), which ranks tokens by how much likelier a strong model finds them than a
weak one, among those that the strong one finds plausible; and proxy-tuning (Liu et al., 2024), which adds the difference of two models'
logits to those of a model. What it is not: either of them to the letter, which take smaller models for that; here it is the model and its
base. Neither paper was read for this: the formula is a reconstruction from how they are commonly told.
Tags as in the project's notes: [N] a third party's note, [D] derived, [O] our own choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Decoder, Speaker, Voice


class Contrastive(Decoder, title="Contrast with the base"):
    """Say more of what the tuning taught: move each token's logit further along the way that it came from the base.

    $$z = z_1 + a\\,(z_1 - z_0) \\quad \\text{among the tokens with} \\quad p_1 \\ge \\beta \\max p_1$$

    z₀ are the base's logits and z₁ the tuned model's. That is p₁·(p₁/p₀)^a made a distribution [D]. A token that both models hardly ever
    expect can have any ratio, so only those count that the tuned model finds at least β times as likely as its favourite; β = 0.1 is
    the usual value [N], and a = 0.5 our own [O]. At a = 0 and β = 0 it is the tuned model. An a below 0 goes back towards the base, and
    at −1 it is the base [D]. The first model of a comparison is the base; it speaks as it is.
    """

    neutral = {"strength": 0.0, "cutoff": 0.0}

    strength: float = knob(0.5, ge=-1, le=4, step=0.05, help="a: how much further than the tuning went; 0 adds nothing")
    cutoff: float = knob(
        0.1, ge=0, le=1, step=0.01, help="β: tokens less likely than this share of the likeliest are ruled out; 0 keeps all"
    )

    def begin(self, own: Speaker, base: Speaker) -> Voice:
        return own if own is base else Contrasted(own, base, self.strength, self.cutoff)


@dataclass(frozen=True)
class Contrasted(Voice):
    own: Voice
    base: Voice
    strength: float
    cutoff: float

    def logits(self, tokens: Sequence[int]) -> Tensor:
        tuned = self.own.logits(tokens)
        further = tuned + self.strength * (tuned - self.base.logits(tokens)) if self.strength else tuned
        if not self.cutoff:
            return further
        return further.masked_fill(tuned < tuned.max() + math.log(self.cutoff), -math.inf)
