"""Arcee Fusion: only the most important differences. Knows nothing of files; large tensors come to it a block of rows at a time.

Tags as in the project's notes: [R] read in mergekit 0.1.5, which the method is from (there is no paper); [O] our own choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.methods.contracts import Merge, Slot


class ArceeFusion(Merge, title="Arcee Fusion", paper=""):
    """Take another model's numbers only where the change is unusually important for its tensor, and leave the rest as it was.

    $$\\theta = \\theta_a + (\\theta_b - \\theta_a) \\cdot [\\, I \\ge q_{50} + 1.5\\, (q_{75} - q_{25})\\, ], \\qquad
    I = |\\theta_b - \\theta_a|\\, \\mathrm{KL}(\\mathrm{softmax}\\, \\theta_b \\,\\Vert\\, \\mathrm{softmax}\\, \\theta_a)$$

    q are quartiles of the importance I in the tensor. The softmax is taken over the numbers of a row, with 1e-8 added to each share [R].
    Rows of weights are no logits, so the divergence has no meaning of its own [O]; it says how much a row has changed, and the bound is
    the usual one for outliers.

    The bound is exact here. mergekit takes it from a random million of the numbers of larger tensors, so its merge is another one each
    time [R]. A tensor of which three quarters did not change at all has the bound 0 and is taken whole, as in mergekit.

    Of one tuned model θ_a is the base; of two θ_a is the first, θ_b the second, and the base is not used [O].
    """

    kit = {"arcee_fusion": {}}

    most = 2
    ordered = True

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if len(set(weights)) > 1:
            found.append("Arcee Fusion takes from the second model what matters most, and has no weights. Set all weights to 1.")
        return found

    def sizes(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        return [_importance(*(base, *tuned)[-2:])]

    def ranks(self, counts: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Those of the three quartiles, each at the place that mergekit gives it: ⌊q(n − 1)⌋ from the smallest number on."""
        return [[count - quarters * (count - 1) // 4 for quarters in (1, 2, 3)] for count, _ in counts]

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        first, second = (base, *tuned)[-2:]
        return torch.where(self._taken(slot, base, tuned, weights), second, first)

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`kept`, the share of the numbers that are taken; `divergence`, the mean of the rows' KL; `changed`, the share of the numbers
        that differ at all."""
        first, second = (base, *tuned)[-2:]
        taken = self._taken(slot, base, tuned, weights)
        divergence, changed = _divergence(first, second).mean(), (first != second).double().mean()
        return {"kept": float(taken.double().mean()), "divergence": float(divergence), "changed": float(changed)}

    def _taken(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        ((low, median, high),) = self.known(slot, base, tuned, weights).cuts or ((0.0, 0.0, 0.0),)
        return _importance(*(base, *tuned)[-2:]).double() >= median + 1.5 * (high - low)


def _importance(first: Tensor, second: Tensor) -> Tensor:
    """Float32, and the same each time, because a number is held against the bound that it has itself helped to find."""
    return ((second.double() - first.double()).abs() * _divergence(first, second)).float()


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    """(…, 1) KL of each row; never below zero, which the last digits of a sum could be."""
    old, new = (model.double().softmax(-1) + 1e-8 for model in (first, second))
    return (new * (new / old).log()).sum(-1, keepdim=True).clamp(min=0)
