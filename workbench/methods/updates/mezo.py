"""MeZO: the slope along a random direction, from two readings of the loss. Not here: how directions are drawn (`materials/perturbing.py`).

Fine-Tuning Language Models with Just Forward Passes, 2023. arXiv:2305.17333. Tags as in the project's notes: [P] abstract, [R] read in
the published code (princeton-nlp/MeZO, trainer.py and README), [O] our own choice.
"""

import math
from collections.abc import Callable
from typing import Any

from workbench.core.forward import ForwardOnly
from workbench.core.method import knob
from workbench.materials import perturbing
from workbench.materials.perturbing import Counting
from workbench.methods.contracts import Update


class MeZO(ForwardOnly, Update, title="MeZO (forward passes alone)", paper="arXiv:2305.17333"):
    """Try the loss a little to either side along a random direction, and go downhill along it.

    $$\\theta \\leftarrow \\theta - \\eta \\left( c\\, z + \\lambda \\theta \\right), \\qquad
    c = \\frac{L(\\theta + \\epsilon z) - L(\\theta - \\epsilon z)}{2\\epsilon}, \\qquad z \\sim \\mathcal{N}(0, I)$$

    No backward pass and no optimizer state: a run takes the memory of answering, up to twelve times less [P]. The direction is drawn
    again from the step's number instead of being kept, so a step is that number and c, which is plotted: a run can be done over from a
    few kilobytes [P]. Dropout is off and the rows are the same in both readings [R].

    The price is steps. One direction of thousands says little, so a rate is small and a run long, the more so the more numbers move:
    authors' rates are 1e-7 with ε = 1e-3 for all weights of 13 B, and 5e-5 with ε = 1e-2 for LoRA [R]. Few numbers, as those of a rotation
    or of an adapter of rank 1, suit it best. `directions` takes the mean over several, each two more readings. The loss that is plotted is
    the mean of the readings, which is that of the parameters themselves up to ε² [O].
    """

    lr: float = knob(1e-4, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")
    epsilon: float = knob(1e-2, gt=0, le=1, help="ε: how far to either side the loss is tried", log=True)
    directions: int = knob(1, ge=1, le=256, help="directions that are tried in a step, two forward passes each", log=True)

    def begin(self, groups: list[dict[str, Any]]) -> "MeZOStepper":
        return MeZOStepper(self, groups)

    def costs(self) -> str:
        return "No gradients are taken: little memory, and many more steps than with a backward pass."


class MeZOStepper(Counting):
    def __init__(self, knobs: MeZO, groups: list[dict[str, Any]]):
        super().__init__(groups, knobs.lr, knobs.weight_decay)
        self.knobs = knobs

    def step(self, rate: float, again: Callable[[], float]) -> dict[str, float]:
        own, first = self.knobs, (self.knobs.seed * 1_000_003 + self.taken) * 257  # directions of a step have numbers of their own
        found = [(first + n, *perturbing.slope(self.groups, first + n, own.epsilon, again)) for n in range(own.directions)]
        self.taken += 1
        loss = math.fsum(loss for *_, loss in found) / own.directions
        if not math.isfinite(loss):
            return {"lr": 0.0, "loss": loss}
        perturbing.decay(self.groups, rate)
        for seed, slope, _ in found:
            perturbing.step(self.groups, seed, slope / own.directions, rate)
        return {"lr": own.lr * rate, "loss": loss, "slope": found[0][1]}
