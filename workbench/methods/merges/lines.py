"""LiNeS: task vectors scaled by depth. Knows nothing of files; large tensors come to it a block of rows at a time.

Tags as in the project's notes: [R] read in the authors' code (wang-kee/LiNeS), [P] in the paper, [D] derived, [O] our own choice.
"""

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.method import knob
from workbench.materials.tensors import task_gram
from workbench.methods.contracts import Merge, Slot

_AFTER_BLOCKS = re.compile(r"(^|\.)(norm|ln_f|final_layer_norm|lm_head|embed_out)\.")


class LiNeS(Additive, Merge, title="LiNeS", paper="arXiv:2410.17146"):
    """Scale the task vector by a factor that grows linearly with depth, so that shallow layers keep the base's general features.

    θ = θ₀ + λ·Σ wᵢ(θᵢ − θ₀) with λ = α + β·ℓ/(L − 1) in block ℓ of L [P][R]; a model of one block has λ = α + β.
    Tensors outside the blocks get λ = α, the final norm and the head too, as in the authors' code [R]; `head_rule: last` gives
    those two α + β [O].

    One model (undo forgetting): weight 1 and β = 1 − α; the authors try α = 0, 0.1 … 1 on validation data [R]. α = 1, β = 0
    is the tuned model itself; α = 0 leaves the first block and everything outside the blocks as in the base.

    Several models: LiNeS stands on top of the summed task vectors, that is task arithmetic with the weights as coefficients.
    The authors set α = (‖Σ τᵢ‖₁ / ‖τ_merged‖₁) / M and search β in 0.1 … 1.0 [R]. For equal weights w the merged vector is w·Σ τᵢ, so
    that this is 1/(M·|w|) whatever the models are [D]; `alpha_rule: norms` sets it so. Weights are never normalised. They put it on TIES,
    Consensus and averages too [P]: equal weights 1/M stand for the average; for the others see `deeper` there. Paper: arXiv:2410.17146.
    """

    ends = ("alpha", "beta")

    alpha: float = knob(0.2, ge=0, le=2, step=0.05, help="scale of the first block and of what lies outside the blocks")
    beta: float = knob(0.8, ge=0, le=2, step=0.05, help="what the last block gets on top")
    alpha_rule: Literal["alpha", "norms"] = knob(
        "alpha", help="the first scale: alpha, or what the L1 norms of M equally weighted models make it, 1/(M·weight)", more=True
    )
    head_rule: Literal["alpha", "last"] = knob(
        "alpha", help="scale of the final norm and the head: alpha, or that of the last block", more=True
    )

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if self.alpha_rule == "norms" and (len(set(weights)) > 1 or 0 in weights):
            found.append("The norms set alpha only where all models weigh the same. Set all weights to 1, or `alpha_rule` to alpha.")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        origin = base.double()
        merged = origin.clone()
        for model, share in zip(tuned, self.shares(slot, weights), strict=True):
            merged.add_(model.double().sub_(origin).mul_(share))
        return merged.float()

    def shares(self, slot: Slot, weights: Sequence[float]) -> list[float]:
        scale = self._scale(slot, weights)
        return [scale * weight for weight in weights]

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `norm` ‖Σ wᵢτᵢ‖ before scaling; `relative` that over ‖θ₀‖."""
        gram = slot.gram if slot.gram is not None else task_gram(base, tuned)
        shares = torch.tensor(weights, dtype=torch.float64)
        norm = float((shares @ gram[1:, 1:] @ shares).clamp(min=0).sqrt())
        size = float(gram[0, 0].sqrt())
        return {"scale": self._scale(slot, weights), "norm": norm, "relative": norm / size if size else 0.0}

    def _scale(self, slot: Slot, weights: Sequence[float]) -> float:
        alpha = self.alpha if self.alpha_rule == "alpha" else 1 / (len(weights) * abs(weights[0]))
        if slot.depth is not None:
            return alpha + self.beta * slot.depth
        return alpha + self.beta if self.head_rule == "last" and _AFTER_BLOCKS.search(slot.name) else alpha
