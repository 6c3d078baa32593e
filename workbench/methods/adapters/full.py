"""Full fine-tuning: every weight of the base may move. Not here: choosing a part of them."""

from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Adapter, Cost


class Full(Whole, Adapter, title="Full tuning"):
    """Let every weight of the model move.

    $$\\theta' = \\theta + \\Delta, \\qquad \\Delta \\text{ unrestricted}$$

    The strongest and the most forgetful way to learn, and the dearest: gradients and optimizer state for every weight,
    and one more copy of the weights at the start, which shows what is being forgotten. Learning rates are ten to a
    hundred times smaller than for LoRA.
    """

    embeddings: bool = knob(True, help="whether the token embeddings (and a head tied to them) move too")

    def attach(self, model: PreTrainedModel, seed: int) -> WholeAttachment:
        return WholeAttachment(model, self._moving(model))

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost_of(model, self._moving(model))

    def _moving(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters that move."""
        held = [] if self.embeddings else [*model.get_input_embeddings().parameters(), *model.get_output_embeddings().parameters()]
        return {name for name, parameter in model.named_parameters() if not any(parameter is other for other in held)}
