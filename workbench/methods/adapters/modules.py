"""Chosen modules: whole tensors of some kinds, in some blocks. Not here: how tensors are trained (`materials/whole.py`).

How to Teach Large Multimodal Models New Skills, 2025. Tags as in the project's notes: [P] abstract, [R] read in the published code
(LMM_CL, scripts/tune_parts), [O] our own choice.
"""

from typing import Literal

from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Whole
from workbench.materials.models import layer_of
from workbench.materials.modules import ATTENTION, MLP, OUTSIDE, is_norm, kind_of, named_so, writes
from workbench.materials.whole import WholeAttachment, cost_of
from workbench.methods.contracts import Adapter, Cost


class Modules(Whole, Adapter, title="Chosen modules"):
    """Let some kinds of modules move and hold the others still.

    $$\\theta_i' = \\theta_i + \\Delta_i \\;\\text{ for } i \\in S, \\qquad \\theta_i' = \\theta_i \\;\\text{ elsewhere}$$

    Two choices of S have been found to learn new skills with little forgetting [P]: the attention alone, and the gate and up matrices of
    the MLPs with their down matrices held still. What an MLP writes is what shifts a model's answers in general, say the authors, and
    the shift shows in numbers that it names on neutral prompts [P]. They train with a rate of 5e-6, a cosine and 3 % warm-up [R].

    The other choices are those that people ask for: the last blocks alone, the norms, the embeddings and the head, or modules by their
    names. Weights are moved as in full tuning: in float32, saved as a model, with a small learning rate.
    """

    part: Literal[
        "attention", "query, key and value", "MLP gate and up", "MLP down", "MLP", "norms", "biases", "embeddings and head", "everything"
    ] = knob("attention", help="which kind of modules move")
    last: int = knob(0, ge=0, le=10_000, help="how many of the last blocks they are taken from; 0 takes them from all", unit="blocks")
    names: str = knob("", help="modules by name instead, such as up_proj, layers.0.*", label="modules by name", names="module")

    def attach(self, model: PreTrainedModel, seed: int) -> WholeAttachment:
        return WholeAttachment(model, self._chosen(model))

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost_of(model, self._chosen(model))

    def _chosen(self, model: PreTrainedModel) -> set[str]:
        patterns = [pattern.strip() for pattern in self.names.split(",") if pattern.strip()]
        found = named_so(model, patterns) if patterns else {name for name, _ in model.named_parameters() if self._of_kind(name)}
        first = model.config.num_hidden_layers - self.last if self.last else 0
        found = {name for name in found if (layer := layer_of(name)) is None or layer >= first}
        if not found:
            raise WorkbenchError(
                f"This {type(model).__name__} has no {self.part} in those blocks, so nothing would move. Choose another part, more blocks, "
                "or modules by name."
            )
        return found

    def _of_kind(self, name: str) -> bool:
        kind = kind_of(name)
        return {
            "attention": kind == ATTENTION,
            "query, key and value": kind == ATTENTION and not writes(name),
            "MLP gate and up": kind == MLP and not writes(name),
            "MLP down": kind == MLP and writes(name),
            "MLP": kind == MLP,
            "norms": is_norm(name),
            "biases": name.endswith(".bias"),
            "embeddings and head": kind == OUTSIDE and not is_norm(name),
            "everything": True,
        }[self.part]
