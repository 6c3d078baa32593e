"""What adapters that move the model's own weights have in common: their family, what a number costs, and in which matrices numbers move."""

from typing import ClassVar

from pydantic import BaseModel

from workbench.core.where import Where


class Whole(BaseModel):
    """Mixed into the adapters that move whole tensors (`materials/whole.py`)."""

    family: ClassVar[str] = "whole"
    rates: ClassVar[tuple[float, float]] = (1e-6, 1e-3)
    whole: ClassVar[bool] = True


class Turned(BaseModel):
    """Mixed into the adapters that turn or scale what frozen weights read or write: few numbers, which must move far."""

    family: ClassVar[str] = "turned"
    rates: ClassVar[tuple[float, float]] = (1e-3, 1e-1)


class Parted(BaseModel):
    """Mixed into the adapters that move entries of the weights themselves (`materials/region.py`)."""

    family: ClassVar[str] = "part"
    rates: ClassVar[tuple[float, float]] = (1e-4, 2e-2)
    held: ClassVar[int] = 28  # its value, two places of 8 bytes, and what it was and is in the weight
    stored: ClassVar[int] = 20  # row, column and change for peft; place and change plain


class Targeted(Where, Parted):
    """Those that can be told in which matrices."""
