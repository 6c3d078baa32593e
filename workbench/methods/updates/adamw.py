"""AdamW as torch has it, with clipping of the gradient's norm before it."""

from typing import Any

from workbench.core.adam import Adam
from workbench.core.method import knob
from workbench.materials.adam import AdamStepper
from workbench.methods.contracts import Update


class AdamW(Adam, Update, title="AdamW", paper="arXiv:1711.05101"):
    """Adam with decoupled weight decay, the field's usual optimizer.

    $$\\theta \\leftarrow \\theta - \\eta\\left(\\frac{\\hat m}{\\sqrt{\\hat v} + \\epsilon} + \\lambda\\theta\\right)$$

    Matrices decay, vectors (norms, biases) do not. Clipping bounds the gradient's norm first; under Adam it does not
    bound the step, because Adam divides by the gradient's own size. Ten times smaller learning rates suit full tuning.
    """

    lr: float = knob(2e-3, gt=0, le=100, help="learning rate at its peak", log=True, label="learning rate")

    def begin(self, groups: list[dict[str, Any]]) -> AdamStepper:
        return AdamStepper(self, self.lr, groups)
