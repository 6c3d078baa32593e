"""rsLoRA: LoRA whose scale suits every rank. Not here: the layers, which are LoRA's (`materials/low_rank.py`).

A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023. Tags as in the project's notes: [P] the paper, [R] read in peft, [D]
derived, [O] our own choice.
"""

from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.low_rank import LowRankAttachment
from workbench.methods.contracts import Adapter, Cost


class RsLoRA(Ranked, Adapter, title="rsLoRA (a scale for every rank)", paper="arXiv:2312.03732"):
    """LoRA with a scale that falls with the root of the rank, so that high ranks learn as fast as low ones.

    $$W' = W + \\frac{\\alpha}{\\sqrt{r}}\\, B A$$

    With LoRA's α/r the change shrinks as the rank grows, and more rank brings little; with α/√r neither what the layers say nor their
    gradients grow or shrink with it, and higher ranks learn more [P]. So a learning rate found at one rank holds at others.

    Here alpha is 8: at rank 16 that is the scale of LoRA's own defaults, 2 [D], so that runs of both can be compared [O]. The saved adapter
    says that its scale is α/√r, and peft reads that [R].
    """

    over_rounded = True

    alpha: float = knob(8.0, gt=0, le=1024, help="scale of the change; it is multiplied by alpha / √rank", log=True)

    def attach(self, model: PreTrainedModel, seed: int) -> LowRankAttachment:
        return LowRankAttachment(low_rank.wrapped(model, self, seed, use_rslora=True))

    def cost(self, model: PreTrainedModel) -> Cost:
        return low_rank.cost(model, self)
