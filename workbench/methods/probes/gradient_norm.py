"""The gradient's length before clipping, a run's pulse."""

import torch

from workbench.methods.contracts import Moment, Probe, Reading

STILL = (
    "The gradient is exactly zero, so nothing is being learnt. Either every weight of the loss is zero on these rows (some losses leave "
    "alone what is nearly certain), or no trained parameter reaches the answer: look at the loss and the adapter."
)


class GradientNorm(Probe, title="Gradient norm"):
    """The Euclidean norm of the whole gradient, before any clipping.

    $$\\lVert g \\rVert_2 = \\sqrt{\\textstyle\\sum_i g_i^2}$$

    A norm that grows without end, jumps, or is exactly zero is the first sign that something is wrong.
    """

    when = "gradient"

    def read(self, moment: Moment) -> Reading:
        norms = [parameter.grad.norm(dtype=torch.float32) for _, parameter in moment.attachment.trained() if parameter.grad is not None]
        norm = torch.stack(norms).norm().item() if norms else 0.0
        return Reading({"grad_norm": norm}, "" if norm else STILL, "act")
