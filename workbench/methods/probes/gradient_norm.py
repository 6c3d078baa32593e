"""The gradient's length before clipping, a run's pulse."""

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.materials.models import layer_of
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

    layers: bool = knob(False, help="read each block too")

    def read(self, moment: Moment) -> Reading:
        by_layer: dict[int | None, list[Tensor]] = {}
        for name, parameter in moment.attachment.trained():
            if parameter.grad is not None:
                by_layer.setdefault(layer_of(name), []).append(parameter.grad)
        norm = norm_of([gradient for gradients in by_layer.values() for gradient in gradients])
        values = {"grad_norm": norm}
        if self.layers:
            places = {layer: "outside" if layer is None else f"layer {layer:02d}" for layer in by_layer}
            values |= {f"grad_norm/{places[layer]}": norm_of(gradients) for layer, gradients in by_layer.items()}
        return Reading(values, "" if norm else STILL, "act")


def norm_of(gradients: list[Tensor]) -> float:
    """The Euclidean norm of all of them together; 0 without any."""
    return torch.stack([gradient.norm(dtype=torch.float32) for gradient in gradients]).norm().item() if gradients else 0.0
