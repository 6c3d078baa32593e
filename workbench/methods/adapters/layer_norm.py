"""LayerNorm tuning: the norms move and nothing else does. Not here: which modules norms are, and their training (`materials/norms.py`).

Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning, 2023. arXiv:2312.11420. Tags as in the project's notes: [P]
abstract, [R] read in peft 0.21.2, [O] our own choice.
"""

from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Turned
from workbench.materials.models import layer_of
from workbench.materials.norms import NormAttachment, norms
from workbench.materials.region import cost
from workbench.methods.contracts import Adapter, Cost


class LayerNormTuning(Turned, Adapter, title="LayerNorm tuning", paper="arXiv:2312.11420"):
    """Train the gains of the norms, and their shifts where they have some, and hold everything else still.

    $$y = \\hat{x} \\odot (g + \\Delta g) + (b + \\Delta b)$$

    A block reads the residual stream as its norms give it, so a few numbers reach all that it does. Within the attention blocks that is
    enough to turn a language model into one that reads images, say the authors, with more than 20 % over LoRA on average at 13 B [P]; for
    text alone they claim nothing.

    What a norm is, is told from its shape: a module without parts whose numbers are all vectors, a gain among them [O]. Those between
    queries and keys, which some models have, are among them. Saved as peft's LN_TUNING; peft trains copies of the norms in the model's own
    precision [R], here the numbers are float32 whatever the model is, so that small steps are not rounded away.
    """

    held = 28  # its value, two places of 8 bytes, and what it was and is in the norm
    over_rounded = True

    last: bool = knob(False, help="whether the norm before the head moves too", label="the last norm too")

    def attach(self, model: PreTrainedModel, seed: int) -> NormAttachment:
        return NormAttachment(model, self._counts(model))

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost(model, self._counts(model))

    def _counts(self, model: PreTrainedModel) -> dict[str, int]:
        """How many numbers each gain and shift has, by its name."""
        wanted = {name: norm for name, norm in norms(model).items() if self.last or layer_of(name + ".") is not None}
        found = {f"{name}.{key}": vector.numel() for name, norm in wanted.items() for key, vector in norm.named_parameters()}
        if not found:
            raise WorkbenchError(f"The norms of this {type(model).__name__} have no numbers of their own to train. Choose another adapter.")
        return found
