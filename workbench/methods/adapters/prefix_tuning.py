"""Prefix tuning: keys and values before the text, in every block. Not here: how they come before it (`materials/prefix.py`), or how they
are trained, saved and opened (`materials/inserted.py`).

Prefix-Tuning: Optimizing Continuous Prompts for Generation, 2021. The prefix that changes nothing at step 0 is a method of its own
(`llama_adapter.py`). Tags as in the project's notes: [K] known, [R] read in peft 0.21.2 (tuners/prefix_tuning), [D] derived, [O] our own
choice.
"""

from transformers import PreTrainedModel

from workbench.core.beside import Unmergeable
from workbench.core.method import knob
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.prefix import counted, prefixes
from workbench.materials.region import cost
from workbench.methods.contracts import Adapter, Cost


class PrefixTuning(Unmergeable, Adapter, title="Prefix tuning", paper="arXiv:2101.00190"):
    """Learn the keys and values of a few tokens that every block reads before the text.

    $$y = W_o\\, \\text{softmax}\\left(\\frac{q\\,[K_p; K]^\\top}{\\sqrt d}\\right) [V_p; V]$$

    K_p and V_p are learnt in each block; all weights stand still. Trains 2·P·d numbers for each head that keys and values have, which is
    very little. A prefix cannot change which of the text's own tokens attend to which, it only adds to what attention says and dampens the
    rest [D]; so it brings out what a model can do more than it teaches, and LoRA learns more.

    **It does not start from the base.** The prefix shares one softmax with the text, so it takes attention away from the text whatever its
    numbers are [D]. It starts as P tokens of the vocabulary, drawn by the seed, that stand before the text: real words disturb a model less
    than noise, as the authors found [K], and a model whose positions are turned in then says, to rounding, what it says after
    those words [D]. The first evaluation shows what that costs. For a start that changes nothing take LLaMA-Adapter.

    The authors learn the prefix through a small network, which steadies training and is thrown away afterwards [K]; here, as in peft by
    default, the numbers themselves are learnt [R]. Text and prefix have the positions that they would have if the text began at 0 [O]. A
    prefix stands before one text, so rows cannot be packed.
    """

    rates = (1e-3, 1e-1)
    starts_at_base = False
    opened_by = "this workbench opens it, and plain peft where positions are turned in (RoPE)"
    packs = False
    over_rounded = True

    tokens: int = knob(16, ge=1, le=256, help="tokens that each block reads before the text", unit="tokens", log=True)

    def attach(self, model: PreTrainedModel, seed: int) -> InsertedAttachment:
        return InsertedAttachment(model, prefixes(model, self.tokens, seed))

    def cost(self, model: PreTrainedModel) -> Cost:
        """Counted with the last matrix of each attention."""
        return cost(model, counted(model, self.tokens))

    def costs(self) -> str:
        return f"{super().costs()} It does not start from what the base says: {self.tokens} drawn words stand before every text at first."
