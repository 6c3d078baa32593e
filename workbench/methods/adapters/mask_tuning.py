"""Mask tuning (R-AMT): weights are switched off, and none is changed. Not here: the switches and the gradient dropout
(`materials/switches.py`).

Regularized Mask Tuning: Uncovering Hidden Knowledge in Pre-trained Vision-Language Models, ICCV 2023. Tags as in the project's notes: [P]
abstract, [R] read in the published code (wuw2019/R-AMT: modules/masklayers.py, trainers/masktuning.py, configs and README), [V] measured
by us, [D] derived, [O] our own choice.
"""

from dataclasses import replace
from typing import Literal

from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Targeted
from workbench.materials import low_rank
from workbench.materials.region import cost
from workbench.materials.switches import SwitchAttachment
from workbench.methods.contracts import Adapter, Cost

STORED = 5  # float32 numbers in the file for a weight that is off: where, and by how much, twice
OFF = 0.3  # share of the weights that are off in the end, for the size of a file that nobody knows before: as below [V]


class MaskTuning(Targeted, Adapter, title="R-AMT (mask tuning: weights switched off)", paper="arXiv:2307.15049"):
    """Learn which weights to switch off, and change none of the others.

    $$W' = b \\odot W, \\qquad b = [\\,m > -\\mu\\,], \\qquad m = 0 \\text{ at first}$$

    What a task needs is in a pretrained model already, say the authors, under much that it does not need: with 2.56 % of the weights off,
    CLIP names images better by 18.73 % than untuned [P]. For language models nothing is claimed. m is a real number beside each weight, and
    the gradient goes through the threshold as if it were not there, so a weight that is off may come back [R]. The authors start m at 0.01
    and switch at 0.005, in the attention alone, with Adam at 8e-5 [R]; only the difference counts [D], and with m from 0 the weight decay
    pulls towards the base [O]. Adam moves m by about the learning rate a step, so nothing happens before μ / rate steps, and then many
    weights may go at once: a rate that is too high shows as a jump of the loss [D].

    Gradient dropout keeps the base: a gradient that takes the model away from it, by the KL between the two, faster than it brings the task
    nearer, is dropped by chance [R]. λ = 1 drops it whole, 0.3, which the authors take for most of their data sets, by that share [R], and
    0 leaves it alone. From the first weight that is off, a step takes as much again, and a pass of the base.

    In one run on the demo model, 60 steps at 5e-4, the loss fell from 4.5 to 0.13 with 28 % of the attention's weights off, and with LoRA
    to 0.08 [V]. It needs the memory of full tuning of the same matrices: a number with its gradient and two moments for each weight. Saved
    are the weights that are off, as a sparse change that peft loads; not one number in it is new.
    """

    rates = (5e-5, 5e-3)
    held = 12  # its number, the weight as it was, and the KL's gradient

    targets: Literal["all linear", "attention", "mlp"] = knob("attention", help="in which matrices weights may be switched off")
    margin: float = knob(5e-3, gt=0, le=1, help="μ: how far a weight's number must fall until it is off", log=True)
    dropping: float = knob(
        1.0, ge=0, le=1, step=0.1, help="λ: how much of a gradient that leads away from the base is dropped; 0 drops none", label="dropout"
    )

    def attach(self, model: PreTrainedModel, seed: int) -> SwitchAttachment:
        return SwitchAttachment(model, self._sizes(model), self.margin, self.dropping, seed)

    def cost(self, model: PreTrainedModel) -> Cost:
        """What reads the same keeps it once."""
        found = cost(model, self._sizes(model))
        read = {(name.rpartition(".")[0], shape[1]) for name, shape in low_rank.matrices(model, self.where)}
        return replace(found, saved=int(OFF * STORED * found.trained), kept=sum(width for _, width in read))

    def costs(self) -> str:
        words = "Takes the memory of full tuning of the same matrices."
        more = " Once weights are off, each step also reads its rows with the base, and once more forth and back."
        return words + (more if self.dropping else "")

    def _sizes(self, model: PreTrainedModel) -> dict[str, int]:
        """How many numbers each weight has, by its name."""
        found = {f"{name}.weight": shape[0] * shape[1] for name, shape in low_rank.matrices(model, self.where)}
        for name in found:
            if not model.get_parameter(name).is_floating_point():
                raise WorkbenchError(
                    f"{name} is quantised, so its weights cannot be switched off one by one. Choose the model as it was before, or an "
                    "adapter beside frozen weights, such as LoRA."
                )
        return found
