"""How far a step moves the weights, measured against the weights themselves. The field's practice; no paper."""

from itertools import chain

import torch
from torch import Tensor

from workbench.core.method import knob
from workbench.materials.models import layer_of
from workbench.methods.contracts import Moment, Probe, Reading


class UpdateRatio(Probe, title="Update / weight"):
    """Compare the length of each step with the length of what it moves.

    $$u = \\frac{\\lVert \\theta_{\\text{after}} - \\theta_{\\text{before}} \\rVert_2}{\\lVert \\theta_{\\text{after}} \\rVert_2}$$

    Around 0.001 is a common rule of thumb for training whole weights; far above it the weights are being replaced, far below
    hardly anything is learnt. LoRA's B starts at zero, so its first steps read high. With layers, each block is read too:
    one that stands out is the one to look at.
    """

    when = "step"

    every: int = knob(10, ge=1, le=1000, help="steps between two readings", unit="steps")
    layers: bool = knob(False, help="read each block too")

    def due(self, step: int) -> bool:
        return step == 1 or step % self.every == 0

    def read(self, moment: Moment) -> Reading:
        moved, there = {}, {}
        for name, parameter in moment.attachment.trained():
            if name in moment.displacement:
                layer = layer_of(name)
                moved.setdefault(layer, []).append(moment.displacement[name])
                there.setdefault(layer, []).append(parameter)
        values = {"update_ratio": ratio([*chain(*moved.values())], [*chain(*there.values())])}
        if self.layers:
            values |= {f"update_ratio/{place(layer)}": ratio(moved[layer], there[layer]) for layer in moved}
        return Reading(values)


def ratio(moved: list[Tensor], there: list[Tensor]) -> float:
    """‖moved‖ / ‖there‖ over lists of tensors; 0 where nothing moved."""
    step, weight = (torch.stack([part.detach().norm(dtype=torch.float32) for part in parts]).norm().item() for parts in (moved, there))
    return step / weight if step else 0.0


def place(layer: int | None) -> str:
    """`layer 03`, or `outside` for what lies in no block."""
    return "outside" if layer is None else f"layer {layer:02d}"
