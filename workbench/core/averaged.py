"""Weights that follow the training slowly: the knob that every update has.

What it is not: the weights themselves, which the training job keeps (`jobs/averaging.py`). Tags: [P] momentum weight interpolation for
continual learning, its idea; [O] our constants. Polyak and Ruppert's averaging is the same thing with a mean over all steps.
"""

from pydantic import BaseModel

from workbench.core.method import knob


class Averaged(BaseModel):
    """After every step slow ← τ·slow + (1 − τ)·fast, from where the run began; the slow weights are evaluated, sampled and kept [P].

    What is trained goes on as if nothing had happened. 0.999 suits long runs [O]: it remembers about 1 / (1 − τ) steps, and a run of
    fewer steps than that stays near where it began. Costs four bytes for each number that moves.
    """

    average: float = knob(
        0.0, ge=0, lt=1, step=0.001, more=True, label="momentum of the average",
        help="τ: what is evaluated and kept is an average that remembers 1 / (1 − τ) steps; 0 keeps what is trained itself",
    )  # fmt: skip

    def bytes_of_average(self) -> int:
        """Memory of the slow weights for one trained parameter."""
        return 4 if self.average else 0
