"""Karcher mean: the middle of several models on the sphere. Knows nothing of files; large tensors come a block of rows at a time.

Every step of the search is a sum of the models' directions, so it is taken on their M shares, by their inner products: the tensors are
read once for these and once for the merge. Tags as in the project's notes: [R] read in mergekit 0.1.5, [K] a standard formula
(Karcher 1977), [O] our own choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.materials.angles import model_products, steady
from workbench.methods.contracts import Merge, Slot

STEPS = 200  # most steps of the search; models of one base need three or four


class Karcher(Merge, title="Karcher mean", paper=""):
    """The middle of several models on the sphere of directions, made as long as they are in the mean.

    $$m = \\argmin_m \\sum_i s_i\\, \\varphi(m, u_i)^2, \\qquad \\theta = m \\sum_i s_i \\lVert\\theta_i\\rVert, \\qquad
    s_i = \\frac{w_i}{\\sum_j w_j}$$

    u is θ over its length and φ the angle. From the mean direction on, m goes along the mean of the arcs to all u, until it stays
    where it is [K]; mergekit stops after 10 steps or at 1e-5 [R]. Of two models this is SLERP with t = s₂, apart from the mean length.
    mergekit has no weights here [R]; ours may not be below zero.

    A tensor of zeros has no direction and is left out of m, but counts in the mean length [R]. Where the directions cancel, as those of
    two opposite tensors do, every direction or none is in the middle: the result is the plain weighted mean [O]; mergekit takes the
    first model's direction [R].
    """

    kit = {"karcher": {}}
    kit_base = False

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if min(weights, default=0) < 0 or sum(weights) <= 0:
            found.append("The Karcher mean is a mean of places, so no weight may be below zero nor all be zero. Change the weights.")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        shares, _ = self._shares(slot, base, tuned, weights)
        merged = torch.full_like(base, -0.0, dtype=torch.float64)  # a sum of −0 stays −0
        for model, share in zip(tuned, shares.tolist(), strict=True):
            merged.add_(model.double().mul_(share))
        return merged.float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`angle` in degrees between the models and the result, their mean; `norm` of the result; `relative`, that over ‖θ₀‖."""
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
        products = model_products(gram)[1:, 1:]
        given = torch.tensor(weights, dtype=torch.float64)
        given, norms = given / given.sum(), products.diagonal().sqrt()
        scale = norms[:, None] * norms
        cosines = torch.where(scale > 0, products / scale, 0.0).clamp(-1, 1)
        middle = _middle(cosines, torch.where(norms > 0, given, 0.0))
        if middle is None:
            return given, products
        return steady(torch.where(norms > 0, middle / norms, 0.0) * (given @ norms)), products


def _middle(cosines: Tensor, weights: Tensor) -> Tensor | None:
    """(M,) shares of the M unit vectors in their Karcher mean, from their (M, M) cosines; None where they cancel."""
    length = (weights @ cosines @ weights).clamp(min=0).sqrt()
    if length <= 1e-6 * weights.sum():
        return None
    pulls, middle = weights / weights.sum(), weights / length
    for _ in range(STEPS):
        along = (cosines @ middle).clamp(-1, 1)  # cosines of the angles to the middle
        sines = ((1 - along) * (1 + along)).sqrt()
        stretch = torch.where(sines > 1e-6, torch.acos(along) / sines, 1.0)  # angle over sine; at both poles the arc has no direction
        turn = pulls * stretch - (pulls * stretch) @ along * middle
        size = (turn @ cosines @ turn).clamp(min=0).sqrt()
        moved = middle * size.cos() + turn * torch.sinc(size / torch.pi)
        moved = moved / (moved @ cosines @ moved).sqrt()
        if (moved - middle).abs().max() <= 1e-13 * moved.abs().max():
            return moved
        middle = moved
    return middle
