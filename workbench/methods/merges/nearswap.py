"""Nearswap: take the other model's number where it is near. Knows nothing of files; large tensors come to it a block of rows at a time.

Tags as in the project's notes: [R] read in mergekit 0.1.5, which has the method from the model card of
QuartetAnemoi-70B; [K] general knowledge; [O] our own choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Merge, Slot


class Nearswap(Merge, title="Nearswap", paper=""):
    """Move every number of one model towards the other model's, but by no more than `t`.

    $$\\theta = \\theta_a + \\max(-t, \\min(t,\\ \\theta_b - \\theta_a))$$

    So a number that is nearer than t becomes the other's, and all others move by exactly t. This is the published
    (1 − w)θ_a + wθ_b with w = min(1, t / |θ_b − θ_a|), written out [R]; only mergekit's floor of 1e-6 below that fraction is gone, which
    is seen where t is smaller still [O].

    Of one tuned model θ_a is the base; of two θ_a is the first, θ_b the second, and the base is not used [O]. t is in the weights' own
    units: a tuned model moves by about 1e-4 to 1e-3 in most numbers [K].
    """

    kit = {"nearswap": {}}
    kit_knobs = {"t": "t"}

    most = 2
    ordered = True

    t: float = knob(1e-4, gt=0, le=10, help="furthest that a number moves", log=True)

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if len(set(weights)) > 1:
            found.append("Nearswap goes from the first model towards the second by its knob t. Set all weights to 1.")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        first, second = (base, *tuned)[-2:]
        origin = first.double()
        way = second.double().sub_(origin)
        return torch.where(way.abs() <= self.t, second, origin.add_(way.clamp(-self.t, self.t)).float())

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`taken`, the share of the numbers that become the other model's; `moved`, how far a number goes in the mean; `apart`, how far
        the two models are apart in the mean."""
        first, second = (base, *tuned)[-2:]
        way = (second.double() - first.double()).abs()
        taken, moved = (way <= self.t).double().mean(), way.clamp(max=self.t).mean()
        return {"taken": float(taken), "moved": float(moved), "apart": float(way.mean())}
