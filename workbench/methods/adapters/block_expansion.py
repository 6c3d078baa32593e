"""Block expansion: new layers between the old ones, and only these learn. Not here: how they are put there (`materials/growing.py`).

Parameter Efficient Fine-tuning of Self-supervised ViTs without Catastrophic Forgetting, 2024, which has the idea from a language model's
further training. Tags as in the project's notes: [P] abstract, [R] read in the published code (rezaakb/peft-vit, utils.py), [V] measured by
us, [O] our own choice.
"""

from collections import Counter

from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.growing import grow, places
from workbench.materials.models import blocks, weights_by_module
from workbench.materials.whole import WholeAttachment
from workbench.methods.contracts import Adapter, Cost


class BlockExpansion(Whole, Adapter, title="Block expansion"):
    """Put a copy behind every few layers, silent at first, and train the copies alone.

    $$h \\leftarrow h + a_l(h) + m_l(h), \\qquad a_l = m_l = 0 \\text{ at the start}$$

    a and m are what a copy's attention and MLP add to the residual stream. The matrices that they write with are zero [R], so at the start
    nothing is added, to the bit; these learn from the first step, and the rest of the copy from the second. No weight of the model moves,
    and without its copies it is the base. It is saved as a model of its own with more layers, which every later answer pays for.

    The authors report that image models keep what they knew [P]. On a toy language model the old task was lost all the same, when nothing
    of it was among the rows [V]: this is room to learn in, not protection. A copy behind every third layer is our choice [O].
    """

    every: int = knob(3, ge=1, le=100, help="layers from one copy to the next", unit="layers")

    def attach(self, model: PreTrainedModel, seed: int) -> WholeAttachment:
        return WholeAttachment(model, set(grow(model, self._sources(model))))

    def cost(self, model: PreTrainedModel) -> Cost:
        """Layers by their number among all, copies too."""
        sources = self._sources(model)
        copies = places(sources)
        there, moved = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
        for _, module, layer, parameter in weights_by_module(model):
            for place in (place for place, source in enumerate(sources) if source == layer) if layer >= 0 else (-1,):
                (moved if place in copies else there)[module, place] += parameter.numel()
        by_module = [(*key, 0, count) for key, count in there.items()] + [(*key, count, count) for key, count in moved.items()]
        return Cost(moved.total(), there.total() + moved.total(), by_module, added=moved.total())

    def costs(self) -> str:
        return f"The model gets longer by one layer in {self.every}, for good: memory, time and every later answer grow with it."

    def _sources(self, model: PreTrainedModel) -> list[int]:
        """Of each layer of the result, which layer of the model it is or copies."""
        layers = len(blocks(model))
        if layers < self.every:
            raise WorkbenchError(
                f"This {type(model).__name__} has {layers} layers that are known here, so none is copied. Set every to {layers} or less, "
                "or choose another adapter."
            )
        return [layer for layer in range(layers) for _ in range(2 if (layer + 1) % self.every == 0 else 1)]
