"""WiSE-FT: a point between the base and one tuned model. Knows nothing of files; large tensors come to it a block of rows at a time.

Tags as in the project's notes: [R] read in the authors' code (mlfoundations/wise-ft); [K] known, not read again; [O] our own choice.
"""

from collections.abc import Sequence

from torch import Tensor

from workbench.core.additive import Additive
from workbench.core.method import knob
from workbench.materials.summing import weighted_sum
from workbench.methods.contracts import Merge, Slot


class WiSEFT(Additive, Merge, title="WiSE-FT", paper="arXiv:2109.01903"):
    """Go part of the way from the base to one tuned model, which often keeps what was learnt and forgets less.

    $$\\theta = (1 - \\alpha)\\, \\theta_0 + \\alpha\\, \\theta_1$$

    The authors walk α from 0 to 1 and look at the accuracy on old and new data [R]; without looking they recommend 0.5 [K]. α = 0 is the
    base and α = 1 the tuned model, exactly. Linear (soup) with `normalise` off and task arithmetic come to the same with one model, and
    take more of them and numbers beyond 1. The authors' variant that weighs each number with its Fisher information [R] needs data and is
    not done here. One model, whose weight is α.
    """

    most = 1

    alpha: float = knob(0.5, ge=0, le=1, step=0.05, help="α: 0 is the base, 1 the tuned model")

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        found = super().mistakes(weights)
        if any(weight != 1 for weight in weights):
            found.append("In WiSE-FT `alpha` says how much of the model is taken. Set its weight to 1 and choose `alpha` instead.")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """`weights` are not used; α takes their place."""
        return weighted_sum([base, tuned[0]], [1 - self.alpha, self.alpha])

    def shares(self, slot: Slot, weights: Sequence[float]) -> list[float]:
        return [self.alpha] * len(weights)

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`alpha` α; `norm` ‖τ‖ of the whole way; `relative` that over ‖θ₀‖."""
        gram = self.known(slot, base, tuned, weights).gram
        assert gram is not None
        norm, size = float(gram[1, 1].sqrt()), float(gram[0, 0].sqrt())
        return {"alpha": self.alpha, "norm": norm, "relative": norm / size if size else 0.0}
