"""What every update that steps with AdamW can be told beside its learning rate.

Here are the knobs; the optimizer itself is built in `materials/adam.py`.
"""

from typing import ClassVar

from pydantic import BaseModel

from workbench.core.method import knob


class Adam(BaseModel):
    """Mixed into the updates with AdamW inside; each has a `lr` of its own."""

    adam: ClassVar[bool] = True

    weight_decay: float = knob(0.0, ge=0, le=1, help="λ: how strongly matrices are pulled to zero", more=True)
    beta1: float = knob(0.9, ge=0, lt=1, help="how long the mean of the gradient remembers", more=True)
    beta2: float = knob(0.999, ge=0, lt=1, help="how long the mean of its square remembers", more=True)
    eps: float = knob(1e-8, gt=0, le=1, help="keeps the division finite", log=True, more=True)
    clip: float = knob(1.0, ge=0, le=1000, help="largest gradient norm; 0 does not clip", more=True, label="clip gradient norm")

    def bytes_per_parameter(self) -> int:
        return 8  # two float32 moments
