"""NuSLERP: along the arc between two models or two task vectors, by weights. Knows nothing of files; large tensors come a block at a time.

What it is not: SLERP with a knob for the way (`slerp.py`). Tags as in the project's notes: [R] read in mergekit 0.1.5, which
the method is from; [O] our own choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.materials.angles import model_products, steady
from workbench.methods.contracts import Merge, Slot


class NuSLERP(Merge, title="NuSLERP", paper=""):
    """Put two models together along the arc between them by their weights; or, with `on_base`, what the two have learnt.

    $$\\theta = \\frac{\\sin(s_1\\varphi)}{\\sin\\varphi}\\, \\theta_1 + \\frac{\\sin(s_2\\varphi)}{\\sin\\varphi}\\, \\theta_2, \\qquad
    s_i = \\frac{w_i}{w_1 + w_2}$$

    φ is the angle between θ₁ and θ₂. With `on_base` it is the angle between τ₁ and τ₂, and their arc is added to the base [R]: task
    vectors are often nearly orthogonal, and a mean of two such is 0.7 times as long, which this is not. `per_row` has an angle for each
    output row; vectors stay whole [R].

    On one line (sin²φ ≤ 1e-10, where the two differ by less than float32 holds) and where a vector is zero, it is the weighted mean [O].
    Opposite vectors cancel halfway. Weights that add up to zero are refused; mergekit takes t = 1/2 then [R]. Of a negative weight the
    arc goes on beyond the other model.
    """

    least = most = 2
    kit = {"nuslerp": {}}
    kit_base = "on_base"
    kit_knobs = {"nuslerp_flatten": ("per_row", {True: False, False: True})}

    on_base: bool = knob(False, help="take the arc between the task vectors and add it to the base")
    per_row: bool = knob(False, help="one angle for each output row instead of one for the whole tensor")

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if abs(sum(weights)) <= 1e-9 * sum(map(abs, weights)):
            found.append("The weights add up to zero, so NuSLERP has no place on the arc. Change a weight.")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        one, two = (share.to(base.device) for share in self._shares(slot, base, tuned, weights)[:2])
        merged = tuned[0].double().mul_(one).add_(tuned[1].double().mul_(two))
        if self.on_base:
            left = 1 - one - two  # p·τ₁ + q·τ₂ + θ₀ in terms of the models, so that equal models give themselves to the bit
            merged.add_(base.double().mul_(torch.where(left.abs() > 2**-30, left, 0.0)))
        return merged.float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`angle` φ in degrees; `first` and `second`, the shares of the two models. With `per_row` means over rows."""
        one, two, angle = self._shares(slot, base, tuned, weights)
        return {"angle": float(angle.rad2deg().mean()), "first": float(one.mean()), "second": float(two.mean())}

    def _shares(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
        """The models' shares and their angle, float64 in main memory: without a dimension, or (rows, 1, …) with `per_row`."""
        shape = (-1, *[1] * (base.dim() - 1))
        if self.per_row and base.dim() > 1:
            first, second = (model.double().sub_(base.double() if self.on_base else 0.0).flatten(1) for model in tuned)
            products = [(one * two).sum(1).reshape(shape).cpu() for one, two in ((first, first), (first, second), (second, second))]
        else:
            gram = self.known(slot, base, tuned, weights).gram
            assert gram is not None
            inner = gram[1:, 1:] if self.on_base else model_products(gram)[1:, 1:]
            products = [inner[0, 0], inner[0, 1], inner[1, 1]]
        return _arc(products, [weight / sum(weights) for weight in weights])


def _arc(products: Sequence[Tensor], shares: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """From ⟨a, a⟩, ⟨a, b⟩, ⟨b, b⟩ the shares of a and b at the place on their arc, and the angle; a zero vector is at no angle."""
    size = products[0].sqrt() * products[2].sqrt()
    cosine = torch.where(size > 0, products[1] / size, 1.0).clamp(-1, 1)
    angle = torch.acos(cosine)
    straight = 1 - cosine.square() <= 1e-10
    below = torch.where(straight, 1.0, angle.sin())
    one, two = (steady(torch.where(straight, share, (share * angle).sin() / below)) for share in shares)
    return one, two, angle
