"""COLA, a chain of LoRAs. Not here: the layers, and how all links become one file (`materials/chain.py`); when a link ends is the run's."""

from dataclasses import replace

from transformers import PreTrainedModel

from workbench.core.method import knob
from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.chain import ChainAttachment
from workbench.methods.contracts import Adapter, Cost


class COLA(Ranked, Adapter, title="COLA (chain of LoRA)", paper="arXiv:2401.04151"):
    """Learn a LoRA, keep it, and begin a fresh one on top of it, again and again.

    $$W_k = W_{k-1} + \\frac{\\alpha}{r}\\, B_k A_k, \\qquad k = 1, \\dots, c$$

    The run is divided into c links of equal length. Each begins with B = 0 and a new A (Kaiming-uniform), a new optimizer, and warm-up and
    schedule from their start [P]. The change can reach rank c·r, while the numbers that move at a time are those of one LoRA. Three
    links are our choice [O]; one is LoRA.

    The paper adds a finished link into W. Here it stays beside W, frozen and without dropout [O]: in bfloat16 a sum would be rounded, and
    small changes lost in it; the base is had back exactly; a stopped run goes on exactly. That costs r(m + n) more numbers a link in memory
    and a slightly longer pass. Saved is one plain LoRA of rank c·r with alpha c·α. The links stand in it in their order: the first k·r rows
    of each A and columns of each B, with alpha k·α, are the model after k links. If an average is kept, a link ends as its average.
    """

    over_rounded = True

    chain: int = knob(3, ge=1, le=32, help="links that the run is divided into; 1 is LoRA", unit="links")

    def attach(self, model: PreTrainedModel, seed: int) -> ChainAttachment:
        return ChainAttachment(low_rank.wrapped(model, self, seed), seed)

    def cost(self, model: PreTrainedModel) -> Cost:
        """What moves at a time, which is one link; the others are held beside it, and all are saved."""
        one = low_rank.cost(model, self)
        return replace(one, beside=(self.chain - 1) * one.trained, saved=self.chain * one.trained)

    def links(self) -> int:
        return self.chain

    def costs(self) -> str:
        if self.chain == 1:
            return ""
        return f"All {self.chain} links are held and saved, as one LoRA of rank {self.chain * self.rank}; only one of them moves at a time."
