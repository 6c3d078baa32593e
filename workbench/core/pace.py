"""How fast parts of a model move against one another: knobs that every update has.

What it is not: the optimizer, or the schedule of the whole. A factor on the learning rate by LoRA's two sides is LoRA+ [P]
arXiv:2402.12354; by depth it is discriminative fine-tuning [P] arXiv:1801.06146.
"""

from pydantic import BaseModel

from workbench.core.method import knob


class Paced(BaseModel):
    """Both factors multiply the learning rate of the parameters they speak of; at 1 all move alike."""

    b_pace: float = knob(
        1.0, ge=1, le=64, help="LoRA+: how many times faster than A LoRA's B moves; its paper takes 16", more=True, label="pace of LoRA's B"
    )
    layer_decay: float = knob(
        1.0, gt=0, le=1, help="rate of each block as a share of the block above it; embeddings lie below the first", more=True, step=0.01
    )

    def pace(self, name: str, layer: int | None, layers: int) -> float:
        """The factor of one parameter; `layer` is its block (0 is the first of `layers`), None outside the blocks."""
        below = layers if layer is None and "embed" in name else layers - 1 - (layers - 1 if layer is None else layer)
        return self.layer_decay**below * (self.b_pace if ".lora_B." in name else 1.0)
