"""Model Breadcrumbs: neither the largest changes nor the small ones. Knows nothing of files; large tensors come a block of rows at a time.

Tags as in the project's notes: [R] read in mergekit 0.1.5, [K] known of the paper, which was not read again; [O] our own choice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.deep import Deep
from workbench.core.method import knob
from workbench.methods.contracts import Merge, Slot


class Breadcrumbs(Deep, Merge, title="Model Breadcrumbs", paper="arXiv:2312.06795"):
    """Add what the models have learnt without its outliers and without its small noise.

    $$\\theta = \\theta_0 + \\lambda \\sum_i w_i \\hat\\tau_i, \\qquad \\hat\\tau_i = \\text{ of } \\tau_i \\text{ the largest } d
    \\text{ that come after the } \\gamma \\text{ largest of all}$$

    For each tensor of n numbers and each model the ⌊γn⌋ largest changes are left out and the ⌊dn⌋ next in size kept, at least one;
    where d + γ exceeds 1 fewer outliers are left out, and d = 1 keeps everything [R]. Numbers of the same size as the largest or the
    smallest that is kept stay too, so that they stay or go together [O]. Weights are not normalised [R].

    Beware of tensors in which few numbers changed at all: where these are fewer than γn, they are all outliers, and the base stays.

    With `vote` those that go against the weighted majority are left out at each number, as in TIES: mergekit's `breadcrumbs_ties` [R].
    """

    kit = {"breadcrumbs": {"vote": False}, "breadcrumbs_ties": {"vote": True}}
    kit_defaults = {"density": 1.0}
    kit_knobs = {"density": "density", "gamma": "outliers", "lambda": "scale"}

    density: float = knob(0.15, gt=0, le=1, step=0.05, help="share of each model's changes that is kept")
    outliers: float = knob(0.01, ge=0, lt=1, step=0.01, help="γ: share of the largest changes that is left out")
    vote: bool = knob(False, help="leave out those that go against the majority, as TIES does")

    def sizes(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        return [] if self.density == 1 else [(model - base).abs() for model in tuned]

    def ranks(self, counts: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Of each model the ranks of the largest and of the smallest change that is kept."""
        wanted = []
        for count, _ in counts:
            kept = max(1, int(self.density * count))
            above = min(int(self.outliers * count), count - kept)
            wanted.append([above + 1, above + kept])
        return wanted

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        changes = self._kept(slot, base, tuned, weights)
        if self.vote:
            changes = torch.where(changes.sign() == _majority(changes), changes, 0.0)
        return base.double().add_(changes.sum(0), alpha=self.scale_at(slot.depth)).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`scale` λ; `kept`, the share of all numbers of which at least one model's change was kept; `agree`, the share of all numbers at
        which nothing that was kept goes against the majority."""
        changes = self._kept(slot, base, tuned, weights)
        kept, against = changes != 0, changes.sign() == -_majority(changes)
        agree = 1 - float(against.any(0).double().mean())
        return {"scale": self.scale_at(slot.depth), "kept": float(kept.any(0).double().mean()), "agree": agree}

    def _kept(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """(M, …) float64: the weighted changes that are left."""
        cuts = self.known(slot, base, tuned, weights).cuts or ((float("inf"), 0.0),) * len(tuned)
        origin, changes = base.double(), []
        for model, weight, (most, least) in zip(tuned, weights, cuts, strict=True):
            size = (model - base).abs()
            changes.append(torch.where((size >= least) & (size <= most), model.double().sub_(origin) * weight, 0.0))
        return torch.stack(changes)


def _majority(changes: Tensor) -> Tensor:
    """+1 or −1 for each number; + where the votes cancel, as in mergekit."""
    return torch.where(changes.sum(0) < 0, -1.0, 1.0)
