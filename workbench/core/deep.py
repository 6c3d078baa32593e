"""How much of a merged task vector is added, and more of it with depth: LiNeS (arXiv:2410.17146) on top of any method that has one.

Here are the knobs and the formula; the merge does the adding. LiNeS alone, on the plain sum, is `methods/merges/lines.py`.
"""

from typing import ClassVar

from pydantic import BaseModel

from workbench.core.method import knob


class Deep(BaseModel):
    """Mixed into every merge that adds one merged task vector to the base: θ = θ₀ + λ(ℓ)·τ, λ(ℓ) = scale + deeper·ℓ/(L − 1)."""

    ends: ClassVar[tuple[str, str]] = ("scale", "deeper")

    scale: float = knob(1.0, ge=-5, le=5, step=0.05, help="λ: how much of the merged task vector is added")
    deeper: float = knob(0.0, ge=-5, le=5, step=0.05, help="LiNeS: what the last block gets on top of that", label="more with depth")

    def scale_at(self, depth: float | None) -> float:
        """λ of a tensor; what lies outside the blocks gets that of the first block, as in the authors' code."""
        return self.scale if depth is None else self.scale + self.deeper * depth
