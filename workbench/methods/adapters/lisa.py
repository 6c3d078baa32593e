"""LISA: a few blocks at a time, others after some steps. Not here: how tensors are trained (`materials/whole.py`).

LISA: Layerwise Importance Sampling for Memory-Efficient Large Language Model Fine-Tuning, 2024. arXiv:2403.17919. Tags as in the
project's notes: [P] abstract, [R] read in the published code (LMFlow, lisa_trainer.py, args.py), [O] our own choice.
"""

import random

from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.attachment import in_turn
from workbench.materials.models import layer_of
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Adapter, Cost


class LISA(Whole, Adapter, title="LISA (blocks that take turns)", paper="arXiv:2403.17919"):
    """Train a few blocks drawn at random, and draw others every so many steps.

    $$\\theta' = \\theta + \\Delta_{S_t} + \\Delta_{\\text{outside}}, \\qquad S_t \\subset \\{1, \\dots, L\\}, \\quad |S_t| = \\gamma$$

    Where LoRA learns, the change is largest in the embeddings and the head and small in the blocks, so those two always move, and of the
    blocks γ at a time are enough: better than LoRA at about its memory [P]. Two blocks and 20 steps are the published code's [R]; a block
    is as likely as another.

    The published code keeps what the optimizer remembers of a block that stands still; here it is forgotten, which is what spares the
    memory [O]. How a block was at first is kept in main memory. Learning rates are those of full tuning.
    """

    blocks: int = knob(2, ge=1, le=10_000, help="how many blocks move at a time", unit="blocks")
    every: int = knob(20, ge=1, le=100_000, help="steps after which others take their turn", unit="steps")

    def attach(self, model: PreTrainedModel, seed: int) -> WholeAttachment:
        return WholeAttachment(model, self._moving(model, seed, 0), in_turn(self.every, lambda turn: self._moving(model, seed, turn)))

    def cost(self, model: PreTrainedModel) -> Cost:
        """At a time, shown for one draw; in the end all blocks may have moved."""
        return cost_of(model, self._moving(model, 0, 0), in_turn=True)

    def costs(self) -> str:
        return "In the end all blocks may have moved, and each is kept as it was at first."

    def _moving(self, model: PreTrainedModel, seed: int, turn: int) -> set[str]:
        layers = model.config.num_hidden_layers
        drawn = {None, *random.Random(f"{seed} {turn}").sample(range(layers), min(self.blocks, layers))}
        return {name for name, _ in model.named_parameters() if layer_of(name) in drawn}
