"""How much each of several tasks should weigh in a step, by how fast its validation loss falls (CoBa, of the makers of MFTCoder).

α is the slope of a task's validation loss, as a share of what it was at first, over the last H values; the more negative, the faster it
falls. Of K tasks

    relative_i = softmax_i(K·α_i / Σ_j |α_j|)              the slow ones more
    absolute_i = softmax_i(−n·α_i / Σ_s |α_i(s)|)          those that fall as they did before more, those that rise again less
    trust = T·softmax_t(−τ·T·ᾱ(t) / Σ_s |ᾱ(s)|) at the end   of the highest loss's slope ᾱ: 1 while it falls as before, less when it rises
    weight = softmax(K·(trust·relative + (1 − trust)·absolute)), and no less than 1/(10·K)

n and T being how many slopes are remembered [R]. What it is not: a loss, or the measuring, which takes one validation batch a step. Tags as
in the project's notes: [R] read in the authors' code (codefuse-ai/MFTCoder), [D] derived, [O] our own choice.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

SHARPNESS = 5.0  # τ [R]
FLOOR = 0.1  # of an equal weight [R]


@dataclass
class Convergence:
    """What is remembered of `tasks` validation losses, at most the last `window` of each; until `warm_up` were told all weigh alike [R].

    Every value in `losses` is a share of the task's first, and so begins at 1. A task that was never told is no part of any sum.
    """

    tasks: int
    window: int = 200
    warm_up: int = 100
    told: int = 0
    first: list[float | None] = field(init=False)
    losses: list[list[float]] = field(init=False)
    slopes: list[list[float]] = field(init=False)
    highest: list[float] = field(default_factory=list)
    highest_slopes: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first = [None] * self.tasks
        self.losses, self.slopes = ([list[float]() for _ in range(self.tasks)] for _ in range(2))

    def see(self, losses: Sequence[float | None]) -> None:
        """The validation loss of each task at this step; None where the batch had no row of it, which leaves it as it was.

        The authors' code takes a loss of exactly 0 for an absent task [R]; here a task that is known by heart is one [O].
        """
        for task, loss in enumerate(losses):
            if self.first[task] is None and loss:
                self.first[task] = loss
            known = self.losses[task]
            begun = self.first[task]
            if begun is not None and (loss is not None or known):
                self._remember(known, known[-1] if loss is None else loss / begun)
                self._incline(self.slopes[task], known)
        there = [known[-1] for known in self.losses if known]
        if there:
            self._remember(self.highest, max(there))
            self._incline(self.highest_slopes, self.highest)
        self.told += 1

    def weights(self) -> list[float]:
        """Of each task; they add up to 1 [O]. A task that was never told has an equal share."""
        seen = [task for task in range(self.tasks) if self.slopes[task]]
        if self.told < self.warm_up or len(seen) < 2:
            return [1 / self.tasks] * self.tasks
        now = torch.tensor([self.slopes[task][-1] for task in seen], dtype=torch.float64)
        relative = _shares(now, now.abs().sum())
        absolute = torch.stack([self._against_itself(self.slopes[task]) for task in seen]).softmax(0)
        trust = self.trust()
        mixed = (len(seen) * (trust * relative.softmax(0) + (1 - trust) * absolute)).softmax(0).clamp(min=FLOOR / len(seen))
        found = [1 / self.tasks] * self.tasks
        for task, weight in zip(seen, (mixed / mixed.sum()).tolist(), strict=True):
            found[task] = weight * len(seen) / self.tasks
        return found

    def trust(self) -> float:
        """From 1, while the highest loss falls as it did, to 0, when it rises again; more than 1 is 1, or the other share would be less
        than none [D]."""
        slopes = torch.tensor(self.highest_slopes, dtype=torch.float64)
        if not len(slopes):
            return 1.0
        shares = (-SHARPNESS * _shares(slopes, slopes.abs().sum())).softmax(0)
        return min(1.0, len(slopes) * float(shares[-1]))

    def state(self) -> dict[str, Tensor]:
        """All that is remembered, by names, for a run that goes on."""
        first = [math.nan if value is None else value for value in self.first]
        held = {"told": [self.told], "first": first, "highest": self.highest, "highest_slopes": self.highest_slopes}
        held |= {f"losses.{task}": own for task, own in enumerate(self.losses)}
        held |= {f"slopes.{task}": own for task, own in enumerate(self.slopes)}
        return {name: torch.tensor(values, dtype=torch.float64) for name, values in held.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there; nothing is remembered where the state is empty."""
        held = {name: values.tolist() for name, values in state.items()}
        if held:
            self.told, self.highest, self.highest_slopes = int(held["told"][0]), held["highest"], held["highest_slopes"]
            self.first = [None if math.isnan(value) else value for value in held["first"]]
            self.losses = [held[f"losses.{task}"] for task in range(self.tasks)]
            self.slopes = [held[f"slopes.{task}"] for task in range(self.tasks)]

    def _against_itself(self, slopes: Sequence[float]) -> Tensor:
        own = torch.tensor(slopes, dtype=torch.float64)
        return -_shares(own, own.abs().sum())[-1]

    def _incline(self, slopes: list[float], values: Sequence[float]) -> None:
        """Remember the slope of values; one value has none, and a 0 in its place would outweigh all that fall [D]."""
        if len(values) > 1:
            self._remember(slopes, slope(values))

    def _remember(self, values: list[float], value: float) -> None:
        values.append(value)
        del values[: -self.window]


def slope(values: Sequence[float]) -> float:
    """Of the straight line through values at 0, 1, 2, … with the least squares; 0 of fewer than two."""
    own = torch.tensor(values, dtype=torch.float64)
    steps = torch.arange(len(own), dtype=torch.float64)
    steps = steps - steps.mean()
    spread = float(steps.square().sum())
    return float((steps * (own - own.mean())).sum()) / spread if spread else 0.0


def _shares(values: Tensor, whole: Tensor) -> Tensor:
    """n·value / whole of n values; 0 where the whole is."""
    return len(values) * values / whole if whole else torch.zeros_like(values)
