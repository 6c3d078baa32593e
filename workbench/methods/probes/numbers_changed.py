"""Whether a step changed anything at all, down to the last bit: a run can be fast, have a gradient, and still not train.

What it is not: how far the numbers went (`update_ratio.py`), or whether there is a gradient (`gradient_norm.py`, which tells of one that is
exactly zero at every step: of rows without an answer, of a graph that is cut, of a model in which nothing may move). Tags: [N] a public
note about a benchmark whose fastest run had no gradient, [D] derived.
"""

import torch

from workbench.core.method import knob
from workbench.methods.contracts import Moment, Probe, Reading

STILL = (
    "A step has changed none of the numbers that are trained, not even in their last bit, so nothing is being learnt, however fast the run "
    "is. Raise the learning rate, or look at the gradient norm: if that is zero too, look at the loss and the adapter."
)


class NumbersChanged(Probe, title="Numbers that changed"):
    """Count the numbers that a step changed, and raise an alarm when it changed none.

    $$\\frac{1}{|\\theta|} \\sum_i [\\, \\theta_{i,\\text{after}} \\ne \\theta_{i,\\text{before}} \\,]$$

    Much of it is nothing to worry about: of a LoRA only B moves in the first step, because B is still zero and A has no gradient [D];
    an update with a mask, or an adapter whose parts take turns, moves a part of the numbers by design. A share that falls while such a
    part stays the same says that steps are getting shorter than the last bit of the weights: they are lost in rounding [D]. A run in which
    nothing moves can be the fastest of all [N].
    """

    when = "step"

    every: int = knob(10, ge=1, le=1000, help="steps between two readings", unit="steps")

    def due(self, step: int) -> bool:
        return step == 1 or step % self.every == 0

    def read(self, moment: Moment) -> Reading:
        count = sum(parameter.numel() for _, parameter in moment.attachment.trained())
        changed = sum(int(torch.count_nonzero(step)) for step in moment.displacement.values())
        return Reading({"numbers_changed": min(1.0, changed / max(1, count))}, "" if changed else STILL, "act")
