"""Model Stock: how far to trust the mean of a few models. Knows nothing of files; large tensors come a block of rows at a time.

Tags as in the project's notes: [P] read in the paper, [R] in third-party code (the authors released none), [O] our own choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.method import knob
from workbench.materials.angles import mean_cosine
from workbench.materials.summing import weighted_sum
from workbench.materials.tensors import task_gram
from workbench.methods.contracts import Merge, Slot


class ModelStock(Additive, Merge, title="Model Stock", paper="arXiv:2403.19522"):
    """Go from the base towards the mean of the tuned models, the further the smaller the angle between their task vectors.

    θ = t·mean θᵢ + (1 − t)·θ₀ with t = N·cos / (1 + (N − 1)·cos), for each tensor (`filter_wise`: for each output row; vectors
    stay whole) [P]. If each task vector is a common centre plus noise of one size that is orthogonal to it and to the others',
    then t·mean is the point of that line nearest to the centre [O].

    The paper has one angle; with more than two models cos is the mean over pairs [R]. A task vector of zero has cosine 0 with
    the others, so two models of which one never moved give the base. `clamp` keeps t in [0, 1]: without it task vectors that
    point apart extrapolate away from them (cos = −0.5 gives t = −2), and t is 0 where the formula has its pole [O]. Norms are
    compared with zero and not with a fixed small number, so t does not depend on how far the models moved. Needs two models;
    their weights must be equal. Products are float64, t is rounded to float32; mergekit sums millions of squares in float32, which moves
    its t by some 1e-4 [R]. Paper: arXiv:2403.19522.
    """

    least = 2
    kit = {"model_stock": {}}
    kit_defaults = {"clamp": False}
    kit_knobs = {"filter_wise": "filter_wise"}

    filter_wise: bool = knob(False, help="one ratio for each output row instead of one for the whole tensor")
    clamp: bool = knob(True, help="keep the ratio between 0 (the base) and 1 (the mean)", more=True)

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if len(set(weights)) > 1:
            found.append("Model Stock gives every model the same share. Set all weights to 1, or choose Linear (soup).")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """`weights` are not used; the paper has none."""
        _, ratio = self._angle_and_ratio(slot, base, tuned)
        if not ratio.dim():
            share = float(ratio)
            return weighted_sum([base, *tuned], [1 - share, *[share / len(tuned)] * len(tuned)])
        ratio = ratio.reshape(-1, *[1] * (base.dim() - 1))
        mean = torch.zeros_like(base, dtype=torch.float64)
        for model in tuned:
            mean.add_(model)
        return mean.div_(len(tuned)).mul_(ratio).add_(base.double().mul_(1 - ratio)).float()

    def by_angles(self) -> bool:
        return True

    def adds(self) -> bool:
        return not self.filter_wise  # there every row has a ratio of its own

    def shares(self, slot: Slot, weights: Sequence[float]) -> list[float]:
        assert slot.gram is not None
        ratio = float(self._ratio(mean_cosine(slot.gram[1:, 1:]), len(weights)))
        return [ratio / len(weights)] * len(weights)

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`angle` between task vectors in degrees and `ratio` t (means over rows if filter-wise), `norm` of the mean task vector,
        `relative` that over ‖θ₀‖."""
        gram = slot.gram if slot.gram is not None else task_gram(base, tuned)
        cosine, ratio = self._angle_and_ratio(slot, base, tuned)
        norm = float(gram[1:, 1:].mean().clamp(min=0).sqrt())
        size = float(gram[0, 0].sqrt())
        angle = float(torch.rad2deg(torch.acos(cosine)).mean())
        return {"angle": angle, "ratio": float(ratio.mean()), "norm": norm, "relative": norm / size if size else 0.0}

    def _angle_and_ratio(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean cosine and t, float64: of the whole tensor without a dimension, or (rows,) if filter-wise."""
        if self.filter_wise and base.dim() > 1:
            tasks = torch.stack([model.double().sub_(base).flatten(1) for model in tuned], dim=1)
            products = tasks @ tasks.transpose(1, 2)
        else:
            products = (slot.gram if slot.gram is not None else task_gram(base, tuned))[1:, 1:]
        cosine = mean_cosine(products)
        return cosine, self._ratio(cosine, len(tuned))

    def _ratio(self, cosine: Tensor, count: int) -> Tensor:
        below = 1 + (count - 1) * cosine
        ratio = torch.where(below > 1e-6, count * cosine / below, 0.0)
        if self.clamp:
            ratio = ratio.clamp(0, 1)
        return ratio.float().double()  # block sums that differ in the last digit of float64 must not change a byte
