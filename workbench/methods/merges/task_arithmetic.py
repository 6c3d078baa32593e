"""Task arithmetic: weighted sums of task vectors. Knows nothing of files; large tensors come to it a block of rows at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.deep import Deep
from workbench.methods.contracts import Merge, Slot


class TaskArithmetic(Deep, Additive, Merge, title="Task arithmetic", paper="arXiv:2212.04089"):
    """Add what each model has learnt to the base, as much of it as its weight says.

    $$\\theta = \\theta_0 + \\lambda \\sum_i w_i \\tau_i, \\qquad \\tau_i = \\theta_i - \\theta_0$$

    A negative weight takes a task away. Weights are not normalised: of several models each usually gets 0.3 to 0.4 [K]. One model with
    λ between 0 and 1 is WiSE-FT (arXiv:2109.01903). Sums are float64 and rounded once.
    """

    kit = {"task_arithmetic": {}}
    kit_knobs = {"lambda": "scale"}

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        origin = base.double()
        merged = origin.clone()
        for model, share in zip(tuned, self.shares(slot, weights), strict=True):
            merged.add_(model.double().sub_(origin).mul_(share))
        return merged.float()

    def shares(self, slot: Slot, weights: Sequence[float]) -> list[float]:
        scale = self.scale_at(slot.depth)
        return [scale * weight for weight in weights]

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `norm` ‖Σ wᵢτᵢ‖ before scaling; `relative` that over ‖θ₀‖."""
        gram = self.known(slot, base, tuned, weights).gram
        assert gram is not None
        shares = torch.tensor(weights, dtype=torch.float64)
        norm, size = float((shares @ gram[1:, 1:] @ shares).clamp(min=0).sqrt()), float(gram[0, 0].sqrt())
        return {"scale": self.scale_at(slot.depth), "norm": norm, "relative": norm / size if size else 0.0}
