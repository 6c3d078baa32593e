"""What every low-rank adapter can be told: how many directions, how strongly, and beside which matrices.

Here are the knobs; the layers themselves are built in `materials/low_rank.py`.
"""

from typing import Literal

from pydantic import BaseModel

from workbench.core.method import knob


class Ranked(BaseModel):
    """Mixed into the adapters of the LoRA family."""

    rank: int = knob(16, ge=1, le=256, help="how many directions each matrix may learn", log=True)
    alpha: float = knob(32.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / rank", log=True)
    dropout: float = knob(0.05, ge=0, lt=1, help="share of the adapter's inputs that is dropped while training", more=True)
    targets: Literal["all linear", "attention", "mlp"] = knob("all linear", help="which matrices get an adapter")
