"""How much of a step is kept when step safety finds it too long: the knobs that every update has, and their arithmetic.

What it is not: the measurement (a probe's) or the shortening of the parameters (the training loop's). The cap [P] is
Proposition 5.2 of arXiv:2603.13552; the refined ratio, the KL and the ceiling of the quantile are ours [D][S].
"""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel

from workbench.core.method import knob

READ = ("step_ratio", "step_ratio_refined", "step_ratio_q99", "step_kl")  # what a guard goes by
CEILING = 4.0  # the worst token's r under the quantile, which alone lets single tokens run away


class Gauge(BaseModel):
    """A probe that reads what a guard goes by."""


class Guarded(BaseModel):
    """All parameters are shortened alike, so the direction stays, and the optimizer's own state advances as if nothing had happened.

    Because a step is linear in the learning rate, this is a lower rate for that step; a capped step does not know how high
    the rate was.
    """

    guard: Literal["monitor", "cap", "refined cap", "quantile", "KL cap"] = knob(
        "monitor", help="what shortens a step that goes too far: nothing, r, the refined r, r of 99 % of the tokens, or the step's KL"
    )
    bound: float = knob(1.0, gt=0, le=100, help="the r that a guarded step keeps to", step=0.1, more=True)
    kl_bound: float = knob(0.05, gt=0, le=10, help="the KL that a step guarded by KL keeps to", unit="nats", log=True, more=True)

    def scale(self, values: Mapping[str, float]) -> float:
        """The share of the step, in [0, 1], that stays within the bound; `values` is what step safety read of the whole step.

        A reading that is no number keeps nothing of the step; a step that moves no logit is kept whole.
        """
        if self.guard == "monitor":
            return 1.0
        ratio, refined, most, kl = (values[name] for name in READ)
        times_too_long = {
            "cap": ratio / self.bound,
            "refined cap": refined / self.bound,
            "quantile": max(most / self.bound, ratio / CEILING),
            "KL cap": math.sqrt(kl / self.kl_bound),
        }[self.guard]
        return 0.0 if math.isnan(times_too_long) else 1 / max(1.0, times_too_long)
