"""SCE: select, calculate, erase. Knows nothing of files; large tensors come to it a block of rows at a time.

Tags as in the project's notes: [R] read in mergekit 0.1.5, [V] measured by us, [O] our own choice. The paper (FuseChat) was not
read.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.deep import Deep
from workbench.core.method import knob
from workbench.methods.contracts import Merge, Slot


class SCE(Deep, Merge, title="SCE", paper="arXiv:2408.07990"):
    """Keep the numbers on which the models differ most, weigh each model by how much it moved, and leave out who goes against the vote.

    $$s_i = \\frac{w_i \\sum \\hat\\tau_i^2}{\\sum_j w_j \\sum \\hat\\tau_j^2}, \\qquad \\gamma = \\mathrm{sgn} \\sum_i w_i \\hat\\tau_i$$

    $$\\theta = \\theta_0 + \\lambda\\, \\frac{\\sum_{i \\in A} s_i \\hat\\tau_i}{\\sum_{i \\in A} s_i}, \\qquad
    A = \\{ i : \\mathrm{sgn}\\, \\hat\\tau_i = \\gamma \\}$$

    Select: of the numbers whose variance over the models is not zero, the share `density` with the largest is kept [R], in each tensor;
    numbers of equal variance stay or go together [O]. With 1 all are kept, those of no variance too. Calculate: s is one number for each
    model and tensor. Erase: votes that cancel count as + [R]. The weights w are ours; equal ones are the published method [O].

    Differs from mergekit on purpose: where all models changed alike, no number has a variance and mergekit drops every change [V]; here
    all are kept. mergekit takes equal s where the mean squares add up to less than 1e-6, so for most fine-tunes, whose changes are
    smaller than a thousandth [R]; here s is the formula's, however small they are.
    """

    kit = {"sce": {}}
    kit_knobs = {"select_topk": "density"}

    density: float = knob(1.0, gt=0, le=1, step=0.05, help="share of the numbers that is kept, those on which the models differ most")

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if min(weights, default=0) < 0:
            found.append("SCE divides by sums of the weights, so none may be below zero. Change it, or choose Task arithmetic.")
        return found

    def sizes(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        return [] if self.density == 1 else [_spread(_changes(base, tuned))]

    def ranks(self, counts: Sequence[tuple[int, int]]) -> list[list[int]]:
        """The rank of the smallest spread that is kept; where no number has any, that is 0 and everything stays."""
        return [[max(1, int(self.density * differing))] for _, differing in counts]

    def totals(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """(M,) the sums of squares of what is kept."""
        return self._selected(slot, base, tuned).square().reshape(len(tuned), -1).sum(1)

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        known = self.known(slot, base, tuned, weights)
        changes = self._selected(known, base, tuned)
        shares = _shares(known, weights).to(base.device).reshape(-1, *[1] * base.dim()) * _agreeing(changes, weights)
        total = shares.sum(0)
        merged = torch.where(total > 0, (changes * shares).sum(0) / total, 0.0)
        return base.double().add_(merged, alpha=self.scale_at(slot.depth)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `kept`, the share of all numbers of which a change was kept; `agree`, the share of all numbers at which nothing that
        was kept went against the vote; `heaviest`, the largest share that one model has."""
        known = self.known(slot, base, tuned, weights)
        changes = self._selected(known, base, tuned)
        kept, agreeing = changes != 0, _agreeing(changes, weights)
        return {
            "scale": self.scale_at(slot.depth),
            "kept": float(kept.any(0).double().mean()),
            "agree": 1 - float((kept & ~agreeing).any(0).double().mean()),
            "heaviest": float(_shares(known, weights).max()),
        }

    def _selected(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor]) -> Tensor:
        """(M, …) float64: the task vectors where the models differ most, 0 elsewhere. The slot knows its cuts."""
        changes = _changes(base, tuned)
        return torch.where(_spread(changes) >= slot.cuts[0][0], changes, 0.0) if slot.cuts else changes


def _changes(base: Tensor, tuned: Sequence[Tensor]) -> Tensor:
    return torch.stack([model.double() for model in tuned]).sub_(base.double())


def _spread(changes: Tensor) -> Tensor:
    """The standard deviation of each number over the models, float32: in the order of the variance, and without its tiny values."""
    return changes.std(0, unbiased=False).float()


def _shares(slot: Slot, weights: Sequence[float]) -> Tensor:
    """(M,) sᵢ to 32 binary digits: block sums that differ in the last digit of float64 must not change a byte."""
    assert slot.totals is not None
    given = torch.tensor(weights, dtype=torch.float64)
    moved = given * slot.totals
    digits, power = torch.frexp(moved / moved.sum() if moved.sum() > 0 else given / given.sum().clamp(min=1e-300))
    return torch.ldexp((digits * 2**32).round(), power - 32)


def _agreeing(changes: Tensor, weights: Sequence[float]) -> Tensor:
    """(M, …) where a model goes with the weighted vote; a change of zero goes with neither side."""
    shares = torch.tensor(weights, dtype=torch.float64).to(changes.device)
    votes = (changes * shares.reshape(-1, *[1] * (changes.dim() - 1))).sum(0)
    return changes.sign() == torch.where(votes < 0, -1.0, 1.0)
