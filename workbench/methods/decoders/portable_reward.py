"""Portable reward tuning (PRT), its serving side: a model whose logits are a reward, added to what any base of the same vocabulary expects.

What it is not: the training of such a model, which is the loss of the same name (`losses/portable_reward.py`); a model that was tuned as
usual is no reward, and the docstring says what is computed with it. Tags as in the project's
notes: [P] read in the paper, [D] derived, [O] our own choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.methods.contracts import Decoder, Speaker, Voice


class PortableReward(Decoder, title="Portable reward (PRT)", paper="arXiv:2502.12776"):
    """Let a model that was trained as a reward steer another base, such as a newer one, which was never tuned.

    $$\\pi(y \\mid x) \\propto \\pi_0(y \\mid x)^{w} \\exp\\left(\\frac{r(x, y)}{\\lambda}\\right)$$

    π₀ is the base, the first model of a comparison, and r the other model's logits; λ = 1 [P]. Any base of the same vocabulary can stand
    there: the reward was trained beside an old one and is served beside a new one, two models instead of the three of emulated
    fine-tuning [P]. A model that was tuned as usual is log π₁ and no reward: with it this is π₀·π₁, sharper than either [D]; for such a
    model take the contrast or the ensemble instead. w is ours [O]: at w = 0 and λ = 1 the model speaks as it is. A constant reward leaves
    the base as it is, and r = log(π₁/π₀) gives π₁ [D]. Paper: arXiv:2502.12776.
    """

    neutral = {"base_share": 0.0, "scale": 1.0}

    base_share: float = knob(1.0, ge=0, le=1, step=0.05, help="w: how much the base counts; 1 is the paper's, 0 leaves it out")
    scale: float = knob(1.0, gt=0, le=100, log=True, help="λ: what the reward is divided by; larger stays closer to the base")

    def begin(self, own: Speaker, base: Speaker) -> Voice:
        return own if own is base else Rewarded(own, base, self.base_share, self.scale)


@dataclass(frozen=True)
class Rewarded(Voice):
    reward: Voice
    base: Voice
    share: float
    scale: float

    def logits(self, tokens: Sequence[int]) -> Tensor:
        reward = self.reward.logits(tokens) / self.scale
        if not self.share:
            return reward  # 0·(−∞) is no number
        base = self.base.logits(tokens)
        if base.shape != reward.shape:
            raise WorkbenchError(
                f"A portable reward over {len(reward)} tokens cannot steer a base with a vocabulary of {len(base)}. Choose a base with the "
                "vocabulary that the reward was trained with."
            )
        return reward + self.share * base
