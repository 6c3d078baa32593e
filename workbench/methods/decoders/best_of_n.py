"""Best of N: several answers are drawn whole, and the one with the best score is said.

What it is not: a training for best-of-N answers, or a judge that reads an answer for its sense: the score is how likely the two models at
hand find it. Named best-of-N sampling or rejection sampling; there is no one paper. Tags as in the project's notes: [D] derived,
[O] our own choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.materials.chorus import Company
from workbench.methods.contracts import Decoder, Speaker, Voice

AT_ONCE = 16  # answers that are drawn in one batch, each with keys and values of its own


class BestOfN(Decoder, title="Best of N"):
    """Draw several answers and say the best of them, by how likely the model itself or the base finds each.

    $$y = \\argmax_{y^{(1)} \\dots y^{(N)} \\sim \\pi_1} \\frac{1}{|y|} \\sum_t s_t, \\qquad
    s_t \\in \\{\\log p_1,\\; \\log p_0,\\; \\log p_1 - \\log p_0\\}$$

    p₁ is the model that answers and p₀ the base. The mean over tokens, the end mark among them, so that a short answer is not better for
    being short [O]. Likely to itself finds what the model is surest of; likely to the base, what the untuned model too would say;
    what the tuning added, the answer that the two agree on least, which is a reward if the tuning is one [D]. Each answer is drawn
    with a seed of its own and this method's temperature; the comparison's own applies to nothing but what comes after the longest. With
    N = 1 it is the model. An answer longer than `longest` is held against the others as far as it goes, and then goes on by itself [O].
    """

    neutral = {"answers": 1}

    answers: int = knob(8, ge=1, le=64, help="N: how many answers are drawn", log=True)
    by: Literal["likely to itself", "likely to the base", "what tuning added"] = knob(
        "likely to the base", help="what the best answer is best in, in the mean over its tokens"
    )
    heat: float = knob(1.0, gt=0, le=5, step=0.05, help="temperature at which the answers are drawn", label="temperature of the draws")
    longest: int = knob(64, ge=1, le=1024, help="tokens of an answer that are drawn before it is chosen", unit="tokens", log=True)
    draw_seed: int = knob(0, ge=0, le=2**31 - 1, help="seed of the first answer; the next ones count on", more=True)

    def costs(self) -> str:
        return f"All {self.answers} answers are drawn, up to {AT_ONCE} in one batch, before the first token is shown."

    def begin(self, own: Speaker, base: Speaker) -> Voice:
        return own if self.answers == 1 else Best(self, own, base)


class Best(Voice):
    """Says the best answer token by token, with certainty."""

    def __init__(self, how: BestOfN, own: Speaker, base: Speaker):
        self.how, self.own, self.base = how, own, base
        self.prompt: list[int] = []
        self.best: list[int] = []

    def logits(self, tokens: Sequence[int]) -> Tensor:
        if not self.prompt or list(tokens[: len(self.prompt)]) != self.prompt:
            self.prompt, self.best = list(tokens), self._best(tokens)
        plain, said = self.own.logits(tokens), list(tokens[len(self.prompt) :])
        if len(said) == len(self.best) or said != self.best[: len(said)]:
            return plain
        return torch.full_like(plain, -math.inf).index_fill(0, torch.tensor([self.best[len(said)]], device=plain.device), 0.0)

    def _best(self, prompt: Sequence[int]) -> list[int]:
        """The best of all. Some are drawn at once, as many as are read in one batch."""
        most = min(self.how.longest, self.own.reads() - len(prompt))
        seeds = range(self.how.draw_seed, self.how.draw_seed + self.how.answers)
        drawn = [self._draw(prompt, seeds[first : first + AT_ONCE], most) for first in range(0, len(seeds), AT_ONCE)]
        return max((one for some in drawn for one in some), key=lambda one: one.mean).answer

    def _draw(self, prompt: Sequence[int], seeds: Sequence[int], most: float) -> list["Drawn"]:
        """One for each seed, in its order: what it draws does not hang on the others."""
        of_own, of_base = self.how.by != "likely to the base", self.how.by != "likely to itself"
        company, drawn = Company(), list[Drawn]()
        for seed in seeds:
            own = self.own.anew()
            base = own if self.base is self.own else self.base.anew()
            drawn.append(Drawn(own, base if of_base else None, torch.Generator().manual_seed(seed)))
        while alive := [one for one in drawn if len(one.answer) < most and (not one.answer or one.answer[-1] != self.own.end())]:
            company.hear({voice: [*prompt, *one.answer] for one in alive for voice in one.asked()})
            for one in alive:
                tokens = [*prompt, *one.answer]
                said = one.own.logits(tokens)
                token = int(torch.multinomial((said / self.how.heat).softmax(-1).cpu(), 1, generator=one.luck))
                one.answer.append(token)
                if of_own:
                    one.score += float(said.log_softmax(-1)[token])
                if one.base is not None:
                    other = float(one.base.logits(tokens).log_softmax(-1)[token])
                    one.score += -other if of_own else other
        return drawn


@dataclass
class Drawn:
    """An answer as it is drawn, and what its tokens score together. Who draws and who judges has a cache of its own for it."""

    own: Speaker
    base: Speaker | None
    luck: torch.Generator
    answer: list[int] = field(default_factory=list)
    score: float = 0.0

    @property
    def mean(self) -> float:
        return self.score / max(1, len(self.answer))

    def asked(self) -> list[Speaker]:
        return [self.own] if self.base is None else [self.own, self.base]
