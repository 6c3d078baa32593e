"""How strongly a run is held to its base while it learns: a knob that every loss has.

What it is not: the measurement of forgetting, which is a probe. That the KL to the base on the new task's inputs predicts what is
forgotten is RL's Razor [P] arXiv:2509.04259; to add it to the objective is the field's common practice, and 0.05 to start
with a suggestion [S]. It is off by default.
"""

from pydantic import BaseModel

from workbench.core.method import knob


class Anchored(BaseModel):
    """Adds β · mean over learnt tokens of KL(base ‖ model), exact over the vocabulary; costs one forward pass of the base a batch."""

    anchor: float = knob(
        0.0, ge=0, le=10, help="β: holds the model to its base by the KL between them; 0 is free, 0.05 a start",
        step=0.05, more=True, label="anchor to the base",
    )  # fmt: skip

    def costs(self) -> str:
        """See `Method.costs`."""
        return "The anchor to the base takes one more forward pass a batch, of the base." if self.anchor else ""
