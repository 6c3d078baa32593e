"""The weighted mean of models (model soups). Knows nothing of files; large tensors come to it a block of rows at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.materials.angles import mean_cosine
from workbench.materials.summing import weighted_sum
from workbench.materials.tensors import task_gram
from workbench.methods.contracts import Merge, Slot


class Linear(Additive, Merge, title="Linear (soup)", paper="arXiv:2203.05482"):
    """The weighted mean of the tuned models.

    θ = θ₀ + Σ sᵢ·(θᵢ − θ₀), where the share sᵢ is wᵢ / Σw with `normalise` on, so that θ = Σ wᵢθᵢ / Σw and the base drops out.
    With `normalise` off sᵢ = wᵢ and the base gets the share 1 − Σw that is left: one model with weight α is then WiSE-FT
    (arXiv:2109.01903), several are task arithmetic (arXiv:2212.04089), and a negative weight takes a task away. The paper has
    equal weights only (uniform soup) and a greedy search for who takes part, which needs validation scores and is not done here.
    Sums are float64 and rounded once, so k copies of the base give back the base and a single model gives back itself.
    Paper: arXiv:2203.05482.
    """

    kit = {"linear": {}}
    kit_base = False
    kit_knobs = {"normalize": "normalise"}

    normalise: bool = knob(True, help="divide by the sum of the weights; off, the base gets what is left of 1")

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        if self.normalise and _cancels(weights):
            return [*super().mistakes(weights), _NO_SUM]
        return super().mistakes(weights)

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        shares = self.shares(slot, weights)
        if self.normalise:  # divided last: of equal weights the sum is exact, and what cancels is zero
            return weighted_sum(tuned, weights, over=sum(weights))
        return weighted_sum([base, *tuned], [1.0 - sum(shares), *shares])

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`norm` ‖Σ sᵢτᵢ‖, `relative` that over ‖θ₀‖, and with two models or more `cosine`, the mean over pairs of task vectors."""
        gram = slot.gram if slot.gram is not None else task_gram(base, tuned)
        shares = torch.tensor(self.shares(slot, weights), dtype=torch.float64)
        norm = float((shares @ gram[1:, 1:] @ shares).clamp(min=0).sqrt())
        size = float(gram[0, 0].sqrt())
        numbers = {"norm": norm, "relative": norm / size if size else 0.0}
        return numbers if len(tuned) < 2 else {**numbers, "cosine": float(mean_cosine(gram[1:, 1:]))}

    def shares(self, slot: Slot, weights: Sequence[float]) -> list[float]:
        if not self.normalise:
            return list(weights)
        if _cancels(weights):
            raise WorkbenchError(_NO_SUM)
        return [weight / sum(weights) for weight in weights]


_NO_SUM = "The weights add up to zero, so their mean does not exist. Change a weight, or switch `normalise` off."


def _cancels(weights: Sequence[float]) -> bool:
    return abs(sum(weights)) <= 1e-9 * sum(map(abs, weights))
