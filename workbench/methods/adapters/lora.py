"""LoRA, as peft builds it. Not here: its variants (rsLoRA, DoRA, initialisations), which are methods of their own."""

from transformers import PreTrainedModel

from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.low_rank import LowRankAttachment
from workbench.methods.contracts import Adapter, Cost


class LoRA(Ranked, Adapter, title="LoRA", paper="arXiv:2106.09685"):
    """Learn a low-rank change beside each frozen weight matrix.

    $$W' = W + \\frac{\\alpha}{r}\\, B A, \\qquad A \\in \\mathbb{R}^{r \\times n},\\; B \\in \\mathbb{R}^{m \\times r}$$

    B starts at zero, so nothing changes at step 0; A starts as Kaiming-uniform. Trains r(m + n) numbers a matrix instead
    of mn. The paper adapts the attention's query and value matrices only and leaves rank and scale to the user; adapting
    all linear layers, with alpha = 2r, is what the field found since (it is the default here). Built by peft.
    """

    over_rounded = True

    def attach(self, model: PreTrainedModel, seed: int) -> LowRankAttachment:
        return LowRankAttachment(low_rank.wrapped(model, self, seed))

    def cost(self, model: PreTrainedModel) -> Cost:
        return low_rank.cost(model, self)
