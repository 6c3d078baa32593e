"""Evolution strategies: many small changes tried at random, and a step towards those that did better. Not here: how they are drawn
(`materials/perturbing.py`).

Evolution Strategies at Scale: LLM Fine-Tuning Beyond Reinforcement Learning, 2025. arXiv:2509.24372. Tags as in the project's notes: [P]
abstract, [R] read in the published code (VsonicV/es-fine-tuning-paper), [O] our own choice.
"""

import math
import statistics
from collections.abc import Callable
from typing import Any

from workbench.core.forward import ForwardOnly
from workbench.core.method import knob
from workbench.materials import perturbing
from workbench.materials.perturbing import Counting
from workbench.methods.contracts import Update


class ES(ForwardOnly, Update, title="Evolution strategies", paper="arXiv:2509.24372"):
    """Try many small random changes, and move towards those that did better than the others.

    $$\\theta \\leftarrow \\theta + \\frac{\\eta}{N} \\sum_{k=1}^{N} \\frac{R_k - \\bar R}{s_R}\\, z_k, \\qquad
    R_k = -L(\\theta + \\sigma z_k), \\qquad z_k \\sim \\mathcal{N}(0, I)$$

    Only how the changes rank among themselves matters, not how large the loss is [D]. Thirty changes of size 1e-3 and a rate of half that
    tune models of billions of weights, which nobody had expected of so few, and hack the reward less than reinforcement learning
    does [P, R]. With noise of one size what was gained is lost again after a while [P]: stop early, or keep what was best.

    The authors reward whole answers; here the reward is the loss on the step's rows with its sign turned [O]. Directions are drawn anew
    from the step's number, each parameter with normal numbers of its own [R]. A step costs as many forward passes as there are changes.
    """

    lr: float = knob(5e-4, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")
    sigma: float = knob(1e-3, gt=0, le=1, help="σ: how large the changes are", log=True)
    population: int = knob(30, ge=2, le=1024, help="changes that are tried in a step, a forward pass each", log=True)

    def begin(self, groups: list[dict[str, Any]]) -> "ESStepper":
        return ESStepper(self, groups)

    def costs(self) -> str:
        return f"No gradients are taken: little memory, and {self.population} forward passes for each step."


class ESStepper(Counting):
    def __init__(self, knobs: ES, groups: list[dict[str, Any]]):
        super().__init__(groups, knobs.lr, knobs.weight_decay)
        self.knobs = knobs

    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        own = self.knobs
        first = (own.seed * 1_000_003 + self.taken) * 1031  # more than a step may have, and none is drawn twice
        losses = [self._tried(first + n, again) for n in range(own.population)]
        self.taken += 1
        mean, spread = statistics.fmean(losses), statistics.pstdev(losses) if all(map(math.isfinite, losses)) else math.nan
        if not math.isfinite(spread):
            return {"lr": 0.0, "loss": math.nan}
        perturbing.decay(self.groups, rate)
        for n, loss in enumerate(losses if spread else []):  # where all do alike there is nothing to follow
            perturbing.step(self.groups, first + n, (loss - mean) / spread / own.population, rate)
        return {"lr": own.lr * rate, "loss": mean, "loss_spread": spread}

    def _tried(self, seed: int, loss: Callable[[], float]) -> float:
        perturbing.shift(self.groups, seed, self.knobs.sigma)
        found = loss()
        perturbing.shift(self.groups, seed, -self.knobs.sigma)
        return found
