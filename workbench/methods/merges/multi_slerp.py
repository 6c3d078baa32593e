"""Multi-SLERP: the mean direction of several models at their mean length. Knows nothing of files; large tensors come a block at a time.

What it is not: the mean on the sphere, which is the Karcher mean's (`karcher.py`). Tags as in the project's notes: [R] read in mergekit
0.1.5, which the method is from; [V] measured by us; [O] our own choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.materials.angles import model_products, steady
from workbench.methods.contracts import Merge, Slot


class MultiSLERP(Merge, title="Multi-SLERP (normalised mean)", paper=""):
    """The mean direction of several models, made as long as they are in the mean; or, with `on_base`, that of what they have learnt.

    $$\\theta = \\frac{\\sum_i s_i u_i}{\\lVert \\sum_i s_i u_i \\rVert} \\sum_i s_i \\lVert\\theta_i\\rVert, \\qquad
    u_i = \\frac{\\theta_i}{\\lVert\\theta_i\\rVert}, \\qquad s_i = \\frac{w_i}{\\sum_j w_j}$$

    This is what mergekit's Multi-SLERP comes to: its step along the sphere starts at the mean and is always zero [R][V]. So it is no
    SLERP: for two orthogonal vectors of length 1 and weights 3/4 and 1/4 it gives (0.949, 0.316), SLERP (0.924, 0.383). The weighted mean
    on the sphere is the Karcher mean; with equal weights and two models of one length all three are the same.

    A tensor of zeros has no direction but counts in the mean length. Where the directions cancel, the result is the plain weighted mean
    [O]; mergekit has that for two models and gives up on more [R]. Weights below zero are refused: the length could become negative [O].
    """

    kit = {"multislerp": {}}
    kit_base = "on_base"

    on_base: bool = knob(False, help="take the mean of the task vectors and add it to the base")

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if min(weights, default=0) < 0 or sum(weights) <= 0:
            found.append("Multi-SLERP takes the mean of lengths, so no weight may be below zero nor all be zero. Change the weights.")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        shares, _ = self._shares(slot, base, tuned, weights)
        merged = torch.full_like(base, -0.0, dtype=torch.float64)  # a sum of −0 stays −0
        for model, share in zip(tuned, shares.tolist(), strict=True):
            merged.add_(model.double().mul_(share))
        left = 1 - float(shares.sum())  # Σ sᵢτᵢ + θ₀ in terms of the models, so that equal models give themselves to the bit
        return merged.add_(base, alpha=left).float() if self.on_base and abs(left) > 2**-30 else merged.float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`angle` in degrees between the models and the result, their mean; `norm` of the result (with `on_base` of what is added);
        `relative`, that over ‖θ₀‖."""
        shares, products = self._shares(slot, base, tuned, weights)
        gram = self.known(slot, base, tuned, weights).gram
        assert gram is not None
        norm, size = (shares @ products @ shares).clamp(min=0).sqrt(), float(gram[0, 0].sqrt())
        lengths = products.diagonal().sqrt() * norm
        angle = torch.acos(torch.where(lengths > 0, products @ shares / lengths, 1.0).clamp(-1, 1)).rad2deg().mean()
        return {"angle": float(angle), "norm": float(norm), "relative": float(norm) / size if size else 0.0}

    def _shares(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> tuple[Tensor, Tensor]:
        """(M,) what each model is multiplied by, and the (M, M) inner products that it follows from."""
        gram = self.known(slot, base, tuned, weights).gram
        assert gram is not None
        products = gram[1:, 1:] if self.on_base else model_products(gram)[1:, 1:]
        given = torch.tensor(weights, dtype=torch.float64)
        given = given / given.sum()
        norms = products.diagonal().sqrt()
        units = torch.where(norms > 0, given / norms, 0.0)
        length = (units @ products @ units).clamp(min=0).sqrt()
        return (given if length <= 1e-6 else steady(units * (given @ norms) / length)), products
