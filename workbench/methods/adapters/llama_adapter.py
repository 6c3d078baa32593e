"""LLaMA-Adapter: prompts that are learnt, in the upper blocks, let in by gates from zero. Not here: the attention to them
(`materials/zero_attention.py`), or how they are trained, saved and opened (`materials/inserted.py`).

LLaMA-Adapter: Efficient Fine-tuning of Language Models with Zero-init Attention, 2023. Tags as in the project's notes: [K] known, [R] read
in peft 0.21.2 (tuners/adaption_prompt), [D] derived, [O] our own choice.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from workbench.core.beside import Unmergeable
from workbench.core.method import knob
from workbench.materials import low_rank
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import layer_of
from workbench.materials.region import cost
from workbench.materials.zero_attention import ZeroAttention, check
from workbench.methods.contracts import Adapter, Cost


class LlamaAdapter(Unmergeable, Adapter, title="LLaMA-Adapter (prompts behind a gate)", paper="arXiv:2303.16199"):
    """Learn a few tokens for each of the upper blocks that every token of a text may attend to, through gates that start shut.

    $$y = \\text{Attn}(x) + W_o \\left[ g_h \\; \\text{softmax}\\left(\\frac{q_h K_h^\\top}{\\sqrt d}\\right) V_h \\right], \\qquad
    K = W_k P, \\quad V = W_v P, \\quad g = 0 \\text{ at first}$$

    The prompt tuning that changes nothing at step 0. With plain prompts or prefixes a text's tokens share their attention with learnt ones
    from the start, and what the model knew is disturbed by noise; here the learnt tokens have a softmax of their own, and a gate for each
    head lets them in as they become useful [K]. P are the tokens of a block and g its gates; all matrices stand still. Trains P·D numbers
    and a few gates a block, which is very little.

    Like every prefix it cannot change which of the text's own tokens attend to which; it adds to what attention says [D], so it brings out
    what a model can do more than it teaches. Ten tokens are the authors' [K]; all blocks are our choice [O]: they leave out the lowest.
    P starts as normal with deviation 1 [R], because what an attention reads has about that size [D]. While the gates are shut P has no
    gradient, so it moves from the second step on [D].
    """

    rates = (1e-3, 1e-1)

    tokens: int = knob(10, ge=1, le=256, help="tokens that each block learns", unit="tokens", log=True)
    blocks: int = knob(0, ge=0, le=10_000, help="how many of the last blocks learn some; 0 is all", unit="blocks")

    def attach(self, model: PreTrainedModel, seed: int) -> InsertedAttachment:
        generator, modules = torch.Generator().manual_seed(seed), dict[str, ZeroAttention]()
        for name in self._hosts(model):
            modules[name] = ZeroAttention.at(model, name, tokens=self.tokens)
            nn.init.normal_(modules[name].prompt, generator=generator)
        return InsertedAttachment(model, modules)

    def cost(self, model: PreTrainedModel) -> Cost:
        """Counted with the matrix that writes what is added."""
        each = self.tokens * model.config.hidden_size + model.config.num_attention_heads
        return cost(model, {f"{name}.o_proj.weight": each for name in self._hosts(model)})

    def _hosts(self, model: PreTrainedModel) -> list[str]:
        """The attentions of the last blocks."""
        first = model.config.num_hidden_layers - self.blocks if self.blocks else 0
        every = [name for name, _ in low_rank.matrices(model, "attention")]
        found = list(dict.fromkeys(name.rpartition(".")[0] for name in every if (layer_of(name + ".") or 0) >= first))
        for name in found:
            check(model, name)
        return found
