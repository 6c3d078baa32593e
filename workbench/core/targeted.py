"""What every adapter that moves a part of the model's matrices can be told: of which matrices."""

from typing import Literal

from pydantic import BaseModel

from workbench.core.method import knob


class Targeted(BaseModel):
    """Mixed into the adapters that move entries of the weights themselves (`materials/region.py`)."""

    targets: Literal["all linear", "attention", "mlp"] = knob("all linear", help="in which matrices numbers move")
