"""On what base an adapter can learn: what is asked of one before the start."""

from typing import ClassVar

from pydantic import BaseModel


class Grounded(BaseModel):
    """Mixed into the contract of all adapters (`methods/contracts.py`)."""

    starts_at_base: ClassVar[bool] = True  # whether the model says at step 0 what the base says; `costs` tells where it does not
    over_rounded: ClassVar[bool] = False  # whether it can learn beside frozen matrices in 4 bits, of which it reads no number
