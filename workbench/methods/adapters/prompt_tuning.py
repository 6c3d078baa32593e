"""Prompt tuning: tokens before the text that are learnt as numbers. Not here: how they come before it (`materials/prefix.py`), or how they
are trained, saved and opened (`materials/inserted.py`).

The Power of Scale for Parameter-Efficient Prompt Tuning, 2021. Tags as in the project's notes: [K] known, [R] read in peft 0.21.2
(tuners/prompt_tuning), [D] derived, [O] our own choice.
"""

from transformers import PreTrainedModel

from workbench.core.beside import Unmergeable
from workbench.core.method import knob
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.prefix import Prompt, drawn, hosts
from workbench.materials.region import cost
from workbench.methods.contracts import Adapter, Cost


class PromptTuning(Unmergeable, Adapter, title="Prompt tuning", paper="arXiv:2104.08691"):
    """Learn the embeddings of a few tokens that the model reads before every text.

    $$y = f([p_1, \\dots, p_P, x_1, \\dots, x_T])$$

    P vectors of the model's width are everything that is learnt, the smallest adapter here: with very large models it comes close to full
    tuning, with small ones it stays far behind [K]. Prefix tuning learns what each block makes of such tokens, which is more and learns
    faster; neither can change which of the text's own tokens attend to which [D].

    **It does not start from the base.** The tokens start as P tokens of the vocabulary, drawn by the seed: the authors found real words
    better than noise [K], peft draws them too if it is told [R]. At step 0 the model says, to rounding, what it says after these words, and
    the first evaluation shows what that costs. For a start that changes nothing take LLaMA-Adapter.

    What the blocks make of the tokens does not depend on the text, so they are read by themselves, once in a pass, for all rows of a batch
    [D]. A prompt stands before one text, so rows cannot be packed. The vectors are as small as embeddings are, and their learning rate is
    that of no other adapter: the authors take 0.3, of another optimizer [K].
    """

    rates = (1e-3, 3e-1)
    starts_at_base = False
    opened_by = "this workbench opens it, and plain peft where positions are turned in (RoPE)"
    packs = False
    over_rounded = True

    tokens: int = knob(20, ge=1, le=1024, help="tokens that are read before the text", unit="tokens", log=True)

    def attach(self, model: PreTrainedModel, seed: int) -> InsertedAttachment:
        name = model.base_model_prefix
        prompt = Prompt.at(model, name, tokens=self.tokens)
        own = model.get_input_embeddings()(drawn(model, self.tokens, seed))  # of some families the module makes them larger, too
        prompt.prompt.data = own.detach().float().cpu()
        return InsertedAttachment(model, {name: prompt})

    def cost(self, model: PreTrainedModel) -> Cost:
        """Counted with the embeddings."""
        hosts(model)
        embeddings = model.get_input_embeddings().weight
        name = next(name for name, parameter in model.named_parameters() if parameter is embeddings)
        return cost(model, {name: self.tokens * model.config.hidden_size})

    def costs(self) -> str:
        return f"{super().costs()} It does not start from what the base says: {self.tokens} drawn words stand before every text at first."
