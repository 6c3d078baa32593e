"""Two models answer as one: the base's and the tuned model's opinion of the next token, averaged at every step.

What it is not: LEVI itself, an architecture whose layers are trained on the intermediate outputs of both models and which is not built
here. It is what LEVI is held against: no weight is merged, and two models run at every token.
Tags as in the project's notes: [P] read in the paper, [O] our own choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Decoder, Speaker, Voice


class Ensemble(Decoder, title="Ensemble with the base", paper="arXiv:2402.04644"):
    """Let the base have a say in every token, as a measure of what a merge of the two could do.

    $$\\log p = (1 - \\alpha)\\, \\log p_0 + \\alpha\\, \\log p_1 + c$$

    p₀ is the base's distribution and p₁ the tuned model's, c makes it a distribution. The mean of log-probabilities is a product of
    experts: a token that one of the two rules out is ruled out [O]; the paper ensembles trained layers and names averaging of outputs as
    the plain way [P]. The first model of a comparison is the base. Paper: arXiv:2402.04644.
    """

    neutral = {"share": 1.0}

    share: float = knob(0.5, ge=0, le=1, step=0.05, help="α: how much of the say the tuned model has; 1 is the tuned model alone")

    def begin(self, own: Speaker, base: Speaker) -> Voice:
        return Both([(voice, share) for voice, share in ((own, self.share), (base, 1 - self.share)) if share > 0])  # 0·(−∞) is no number


@dataclass(frozen=True)
class Both(Voice):
    """Voices with their shares of the say, all above 0."""

    says: list[tuple[Voice, float]]

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """The mean of logits is that of log-probabilities but for c."""
        return torch.stack([share * voice.logits(tokens) for voice, share in self.says]).sum(0)
