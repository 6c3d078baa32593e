"""Passthrough: layers as they are, for models stacked of other models' layers. Which layers, says the spec's `stack`; not this file.

Tags as in the project's notes: [R] read in mergekit 0.1.5, [O] our own choice. There is no paper: the recipe grew on model cards.
"""

from collections.abc import Sequence

from torch import Tensor

from workbench.core.method import knob
from workbench.methods.contracts import Merge, Slot


class Passthrough(Merge, title="Passthrough (stacked layers)", paper=""):
    """Copy each layer from one model: a taller model of the layers of several, or of some layers twice.

    $$\\theta = s \\cdot \\theta_a$$

    θ_a is the one model of the slice [R]. With s = 1 the numbers are copied as they are. `vary` multiplies some tensors only: with
    `scale: [{filter: layers.3.self_attn.o_proj, value: 0}, {filter: layers.3.mlp.down_proj, value: 0}, {value: 1}]` the block 3 adds
    nothing to what passes through it, so a block that is there twice starts as nothing and can be trained. Embeddings come from the first
    slice's model, final norm and head from the last one's [R]; a head that is tied to the embeddings stays tied.

    A stack of untrained seams speaks worse than its parts as a rule. Train it, or compare it, before you trust it [O].
    """

    kit = {"passthrough": {}}
    kit_base = False
    kit_knobs = {"scale": "scale"}

    most = 1

    scale: float = knob(1.0, ge=-2, le=2, step=0.05, help="factor on the copied numbers; 1 leaves them as they are")

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        if len(weights) > self.most:
            return [
                f"Passthrough copies one model in each place, and here are {len(weights)}. Name one model in each slice of `stack`, "
                "or choose another method."
            ]
        found = super().mistakes(weights)
        if any(weight != 1 for weight in weights):
            found.append("Passthrough takes each model as it is. Set its weight to 1; the knob `scale` multiplies.")
        return found

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        return tuned[0] if self.scale == 1 else tuned[0].double().mul_(self.scale).float()

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """`factor`, what the copied numbers are multiplied by."""
        return {"factor": self.scale}
