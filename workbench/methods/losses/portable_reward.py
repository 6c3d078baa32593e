"""Portable reward tuning (PRT), its training side: what is learnt is a reward beside the base, which another base can be given later.

What it is not: its serving, which is the decoder of the same name (`decoders/portable_reward.py`). Tags as in the project's notes: [P] read
in the paper, [D] derived, [O] our own choice.
"""

from typing import Literal

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Loss, TokenStats


class PortableReward(Loss, title="Portable reward (PRT)", paper="arXiv:2502.12776"):
    """Train the model as a reward that is added to its base's logits, so that it can steer a newer base of the same vocabulary later.

    $$L = -\\frac{1}{M} \\sum_t \\log \\pi(y_t) - \\alpha\\, H\\big(\\mathrm{softmax}(r)\\big), \\qquad
    \\pi = \\mathrm{softmax}(\\log \\pi_0 + r)$$

    π₀ is the base, and r what the tuned model says, its logits, which start as the base's own [P]. So at the start both together say π₀²,
    sharper than the base, and the loss begins above the base's [D]; it is the two together that all losses of the run are told of.
    The entropy term, which the paper leaves to choice, keeps r from deciding more than the rows teach [P].

    Such a model is served by the decoder Portable reward, beside its own base or a newer one: two models [P]. Alone it is half of what was
    learnt, and so are the samples of the run. With “difference” r is how far the tuned logits lie from the base's, and is 0 at the
    start: then π is the tuned model itself and the training that of cross-entropy, and to serve it beside another base takes three
    models, as the contrast does [D].
    """

    neutral = {"reward": "difference"}

    reward: Literal["logits", "difference"] = knob(
        "logits", help="r: the tuned model's logits, as published, or how far they lie from the base's, which trains as cross-entropy does"
    )
    entropy: float = knob(0.0, ge=0, le=1, help="α: how much a reward that decides little is worth; 0 leaves it out", step=0.01)

    def costs(self) -> str:
        return "A reward takes one more forward pass a batch, of the base." if self._beside() else super().costs()

    def weights(self, stats: TokenStats) -> Tensor:
        return torch.ones_like(stats.logp)

    def needs_base(self) -> bool:
        return self._beside() or super().needs_base()

    def alone(self) -> bool:
        return self.reward == "difference"

    def spoken(self, table: Tensor, base: Tensor) -> Tensor:
        return table if self.alone() else (base + table).log_softmax(-1)

    def penalty(self, table: Tensor, base: Tensor, labels: Tensor) -> Tensor:
        """The anchor to the base, and −α·H(softmax(r)), r being what lies between the base and who speaks."""
        held = super().penalty(table, base, labels)
        if not self.entropy:
            return held
        reward = (table - base).log_softmax(-1)
        return held + self.entropy * (reward.exp() * reward).sum(-1)

    def _beside(self) -> bool:
        return not self.alone() or self.entropy > 0
