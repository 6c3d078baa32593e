"""TaRot: what each attention head says is turned a little, plane by plane. Not here: the turning and the file (`materials/planes.py`).

Mechanistic Behavior Editing of Language Models, 2024. Tags as in the project's notes: [P] abstract, [R] read in the published code
(joykirat18/TaRot: Utils/intervention.py, trainRotation_NN_kernel.py, README), [D] derived, [O] our own choice. Not here either: the paper's
Bayesian optimisation, its rotations by a tree of planes (`givens`), and turns of what MLPs write.
"""

import math

from torch import nn
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Turned
from workbench.materials import low_rank
from workbench.materials.models import layer_of
from workbench.materials.modules import ATTENTION, kind_of, writes
from workbench.materials.planes import PlanesAttachment
from workbench.materials.region import cost
from workbench.methods.contracts import Adapter, Cost


class TaRot(Turned, Adapter, title="TaRot (heads turned in planes)", paper="arXiv:2410.04277"):
    """Turn what the attention heads of the lower blocks say, by a small angle in each of their planes.

    $$z'_{2i} = \\cos\\theta_i \\, z_{2i} + \\sin\\theta_i \\, z_{2i+1}, \\qquad
    z'_{2i+1} = \\cos\\theta_i \\, z_{2i+1} - \\sin\\theta_i \\, z_{2i}, \\qquad |\\theta_i| \\le 30°$$

    z is what a head gives to the attention's last matrix, taken two numbers at a time [R]; a turn lengthens nothing and adds nothing. The
    authors turn the attention away from answers that a prompt wrongly brings up, and report 23.81 % more without examples and 11.15 % with
    a few, on average [P]. They turn all heads of about the first half of the blocks, by 30° at most either way [R]. A block has half as
    many angles as its last attention matrix has inputs, so a model of 8 B has 32,768 [D]. They begin at 0 here, which is the base, and at
    random in the paper [R].

    The paper never takes a gradient: it looks for the angles by Bayesian optimisation, some 120 trials of the probability of the right
    answer to 20 questions [R]. Here the update looks for them [O]. MeZO and evolution strategies also ask for losses alone, and so few
    numbers suit them; AdamW follows the gradient, which costs memory and is faster. After each step angles beyond the limit are brought
    back to it [O]. Saved as peft's OFT with blocks of two, which is the same turn [D].
    """

    over_rounded = True

    share: float = knob(0.5, gt=0, le=1, step=0.05, help="share of the blocks whose heads turn, the first ones", label="share of blocks")
    limit: float = knob(30.0, gt=0, le=120, help="how far a plane may turn either way", unit="degrees")

    def attach(self, model: PreTrainedModel, seed: int) -> PlanesAttachment:
        return PlanesAttachment(model, self._turned(model), math.radians(self.limit))

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost(model, {f"{name}.weight": size // 2 for name, size in self._turned(model).items()})

    def costs(self) -> str:
        return "Few numbers, which need no gradient: MeZO or ES under update look for them as the paper does, by losses alone."

    def _turned(self, model: PreTrainedModel) -> dict[str, int]:
        """By the name of an attention's last matrix, how many inputs it has."""
        last, found = max(1, round(self.share * model.config.num_hidden_layers)), dict[str, int]()
        for name, _ in low_rank.matrices(model, "all linear"):
            weight, matrix = f"{name}.weight", model.get_submodule(name)
            if writes(weight) and kind_of(weight) == ATTENTION and (layer_of(weight) or 0) < last:
                found[name] = matrix.in_features if isinstance(matrix, nn.Linear) else len(matrix.get_parameter("weight"))
        if not found:
            raise WorkbenchError(f"No matrix is known that the attentions of this {type(model).__name__} end with. Choose LOFT or LoRA.")
        return found
