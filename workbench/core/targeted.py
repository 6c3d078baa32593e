"""What adapters that move the model's own weights have in common: their family, what a number costs, and in which matrices numbers move."""

from typing import ClassVar, Literal

from pydantic import BaseModel

from workbench.core.method import knob


class Whole(BaseModel):
    """Mixed into the adapters that move whole tensors (`materials/whole.py`)."""

    family: ClassVar[str] = "whole"
    whole: ClassVar[bool] = True


class Parted(BaseModel):
    """Mixed into the adapters that move entries of the weights themselves (`materials/region.py`)."""

    family: ClassVar[str] = "part"
    held: ClassVar[int] = 28  # its value, two places of 8 bytes, and what it was and is in the weight
    stored: ClassVar[int] = 20  # row, column and change for peft; place and change plain


class Targeted(Parted):
    """Those that can be told in which matrices."""

    targets: Literal["all linear", "attention", "mlp"] = knob("all linear", help="in which matrices numbers move")
