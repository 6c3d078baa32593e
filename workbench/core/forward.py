"""What every update that asks for losses alone can be told beside its learning rate; how it moves is in `materials/perturbing.py`."""

from typing import ClassVar

from pydantic import BaseModel

from workbench.core.method import knob


class ForwardOnly(BaseModel):
    """Mixed into the updates that never take a gradient."""

    forward_only: ClassVar[bool] = True

    weight_decay: float = knob(0.0, ge=0, le=1, help="λ: how strongly matrices are pulled to zero", more=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes the directions", more=True)

    def bytes_per_parameter(self) -> int:
        return 0  # it remembers how many steps it has taken
