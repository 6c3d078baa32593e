"""Best of N: several answers are drawn whole, and the one with the best score is said.

What it is not: a training for best-of-N answers, or a judge that reads an answer for its sense: the score is how likely the two models at
hand find it. Named best-of-N sampling or rejection sampling; there is no one paper. Tags as in the project's notes: [D] derived,
[O] our own choice.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Decoder, Speaker, Voice


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
        return f"All {self.answers} answers are drawn, one after the other, before the first token is shown."

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
        own, base = self.own.anew(), self.base.anew()
        drawn = [self._drawn(list(prompt), own, base, self.how.draw_seed + number) for number in range(self.how.answers)]
        return max(drawn, key=lambda one: one[1])[0]

    def _drawn(self, prompt: list[int], own: Speaker, base: Speaker, seed: int) -> tuple[list[int], float]:
        """An answer and its score."""
        luck, answer, score = torch.Generator().manual_seed(seed), list[int](), 0.0
        most = min(self.how.longest, own.reads() - len(prompt))
        while len(answer) < most and (not answer or answer[-1] != own.end()):
            tokens = [*prompt, *answer]
            said = own.logits(tokens)
            token = int(torch.multinomial((said / self.how.heat).softmax(-1).cpu(), 1, generator=luck))
            if self.how.by != "likely to the base":
                score += float(said.log_softmax(-1)[token])
            if self.how.by != "likely to itself":
                other = float(base.logits(tokens).log_softmax(-1)[token])
                score += other if self.how.by == "likely to the base" else -other
            answer.append(token)
        return answer, score / max(1, len(answer))
