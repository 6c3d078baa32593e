"""HFT: half of each block's modules move, the other half keeps what it knows. Not here: how tensors are trained (`materials/whole.py`).

HFT: Half Fine-Tuning for Large Language Models, ACL 2025. arXiv:2404.18466. Tags as in the project's notes: [P] abstract, [N] notes on the
paper and a re-implementation (gucci-j/ssu), [O] our own choice.
"""

import random

from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.attachment import in_turn
from workbench.materials.models import layer_of
from workbench.materials.modules import kind_of, module_of, outside
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Adapter, Cost


class HFT(Whole, Adapter, title="HFT (half of the modules)", paper="arXiv:2404.18466"):
    """Draw half of the modules of every block, and train those and nothing else in it.

    $$\\theta' = \\theta + M \\odot \\Delta, \\qquad M \\;\\text{half of the attention, half of the MLP, half of the norms of each block}$$

    Putting half of a tuned model's weights back brings back much of what tuning had forgotten, so half is never moved [P]. Of a block's
    four attention matrices two move, of its two norms one; of the three MLP matrices one in a random half of the blocks and two in the
    others; embeddings, head and the last norm always [N]. Drawing half of each kind is better than half of the blocks, and that better
    than half of the model [N]; only the first is here.

    Over several rounds of training the half is drawn anew for each [N]; `every` does it within a run. Chosen once, which is the default
    here [O], the half that stands still is the base's to the bit.
    """

    every: int = knob(0, ge=0, le=100_000, help="steps between two draws; 0 draws once", unit="steps")

    def attach(self, model: PreTrainedModel, seed: int) -> WholeAttachment:
        others = in_turn(self.every, lambda turn: self._half(model, seed, turn)) if self.every else None
        return WholeAttachment(model, self._half(model, seed, 0), others)

    def cost(self, model: PreTrainedModel) -> Cost:
        """For one draw; where keys and values are narrower than queries, another may move some more or less."""
        return cost_of(model, self._half(model, 0, 0), in_turn=self.every > 0)

    def costs(self) -> str:
        return "In the end all modules may have moved, and each is kept as it was at first." if self.every else ""

    def _half(self, model: PreTrainedModel, seed: int, turn: int) -> set[str]:
        draw = random.Random(f"{seed} {turn}")
        more = set(draw.sample(range(model.config.num_hidden_layers), model.config.num_hidden_layers // 2))
        chosen = set[str]()
        for (layer, _), modules in sorted(_kinds(model).items()):
            count = len(modules) // 2 + (len(modules) % 2 if layer in more else 0)
            chosen |= set(draw.sample(modules, count))
        return {name for name, _ in model.named_parameters() if module_of(name) in chosen} | outside(model)


def _kinds(model: PreTrainedModel) -> dict[tuple[int, str], list[str]]:
    """The modules of each kind in each block."""
    found = dict[tuple[int, str], list[str]]()
    for name, _ in model.named_parameters():
        layer, module = layer_of(name), module_of(name)
        if layer is not None and module not in (own := found.setdefault((layer, kind_of(name)), [])):
            own.append(module)
    return found
