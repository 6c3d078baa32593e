"""What every low-rank adapter can be told: how many directions, how strongly, and beside which matrices.

Here are the knobs; the layers themselves are built in `materials/low_rank.py`.
"""

from pydantic import BaseModel

from workbench.core.method import knob
from workbench.core.where import Where


class Sized(BaseModel):
    """How large a low-rank change is."""

    rank: int = knob(16, ge=1, le=256, help="how many directions each matrix may learn", log=True)
    alpha: float = knob(32.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / rank", log=True)
    dropout: float = knob(0.05, ge=0, lt=1, help="share of the adapter's inputs that is dropped while training", more=True)


class Ranked(Where, Sized):
    """Mixed into the adapters of the LoRA family."""
