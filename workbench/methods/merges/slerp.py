"""SLERP: along the arc between two models. Knows nothing of files; large tensors come to it a block of rows at a time.

What it is not: the arc between task vectors, which is NuSLERP's. Tags as in the project's notes: [R] read in mergekit 0.1.5, [K] a
standard formula (Shoemake, SIGGRAPH 1985), [O] our own choice.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.materials.angles import model_products, steady
from workbench.methods.contracts import Merge, Slot


class SLERP(Merge, title="SLERP", paper=""):
    """Go from one model to another along an arc, so that the weights keep their size on the way.

    $$\\theta = \\frac{\\sin((1 - t)\\varphi)}{\\sin\\varphi}\\, \\theta_a + \\frac{\\sin(t\\varphi)}{\\sin\\varphi}\\, \\theta_b, \\qquad
    \\cos\\varphi = \\frac{\\langle \\theta_a, \\theta_b \\rangle}{\\lVert\\theta_a\\rVert\\, \\lVert\\theta_b\\rVert}$$

    Of two models θ_a is the first and θ_b the second, and the base is not used; of one model θ_a is the base [O]. Each tensor has its
    own angle φ; the shares go to the tensors as they are, not to unit vectors [R].

    Where |cos φ| > 0.9995, which is less than 1.8 degrees or nearly opposite, and where a tensor is zero, it is the straight line
    (1 − t)θ_a + tθ_b [R]. Models tuned lightly from one base are usually nearer than that, and then this is a plain mean: NuSLERP with
    `on_base` takes the angle between what they have learnt instead. Opposite tensors cancel halfway.
    """

    kit = {"slerp": {}}
    kit_knobs = {"t": "t"}

    most = 2
    ordered = True

    t: float = knob(0.5, ge=0, le=1, step=0.05, help="how far to go: 0 is the base or the first of two models, 1 the last model")

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if len(set(weights)) > 1:
            found.append("SLERP goes from the first model to the second by its knob t. Set all weights to 1, or choose NuSLERP.")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        first, second = (base, *tuned)[-2:]
        one, two, _ = self._shares(slot, base, tuned, weights)
        return first.double().mul_(one).add_(second.double().mul_(two)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`angle` φ in degrees; `first` and `second`, the shares of the two ends, which add up to 1 on a straight line."""
        one, two, angle = self._shares(slot, base, tuned, weights)
        return {"angle": math.degrees(angle), "first": one, "second": two}

    def _shares(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> tuple[float, float, float]:
        """The shares of the two ends, and the angle between them; 0 where one of them is zero."""
        gram = self.known(slot, base, tuned, weights).gram
        assert gram is not None
        products = model_products(gram)[-2:, -2:]
        size = float(products.diagonal().sqrt().prod())
        cosine = max(-1.0, min(1.0, float(products[0, 1]) / size)) if size else 1.0
        angle = math.acos(cosine)
        if abs(cosine) > 0.9995:
            return 1 - self.t, self.t, angle
        sines = torch.tensor([math.sin((1 - self.t) * angle), math.sin(self.t * angle)], dtype=torch.float64)
        first, second = steady(sines / math.sin(angle)).tolist()
        return first, second, angle
