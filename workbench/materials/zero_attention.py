"""Some tokens that every token of a text may attend to beside the text, from nothing: attention of their own, behind a gate that is shut.

    y = Attn(x) + W_o [g_h softmax(q_h K_hᵀ / √d) V_h],   q = W_q x, K = W_k P, V = W_v P

P (tokens, D) and one gate g for each head h are learnt; the matrices are the frozen attention's own, and so are the norms of queries and
keys where it has some. With g at zero it adds nothing, to the bit. q is taken before its position is turned in, so a prompt token has no
place in the text and is read alike from anywhere [O]. Nothing is kept in a cache. What it is not: which blocks, and how P starts, which is
a method's (`methods/adapters/llama_adapter.py`). Tags: [O] our own choice.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.beside import Beside

APART, FUSED = {"q_proj", "k_proj", "v_proj", "o_proj"}, {"qkv_proj", "o_proj"}
NORMS = ("q_norm", "k_norm")  # of each head's queries and keys


class ZeroAttention(Beside):
    """`tokens` of them beside one attention of so many heads; all its numbers are zero until they are set."""

    def __init__(self, width: int, tokens: int, heads: int):
        super().__init__()
        self.tokens, self.heads = tokens, heads
        self.prompt = nn.Parameter(torch.zeros(tokens, width))
        self.gate = nn.Parameter(torch.zeros(heads))

    @classmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        check(model, name)
        return cls(model.config.hidden_size, heads=model.config.num_attention_heads, **settings)

    def settings(self) -> dict[str, Any]:
        return {"tokens": self.tokens}

    def hook(self, host: nn.Module) -> None:
        host.register_forward_hook(self._add, with_kwargs=True)

    def forward(self, host: nn.Module, inputs: Tensor) -> Tensor:
        parts = dict(host.named_children())
        q, (_, k, v) = self._read(parts, inputs)[0], self._read(parts, self.prompt.to(inputs.dtype))
        q, k = (parts[name](own) if name in parts else own for name, own in zip(NORMS, (q, k), strict=True))
        k, v = (own.repeat_interleave(self.heads // own.shape[-2], -2) for own in (k, v))  # heads that share keys and values
        scores = torch.einsum("bthd,phd->bthp", q, k) * q.shape[-1] ** -0.5
        shares = self.gate[:, None] * scores.float().softmax(-1)
        mixed = torch.einsum("bthp,phd->bthd", shares.to(v.dtype), v)
        return linear(mixed.flatten(-2), parts["o_proj"].get_parameter("weight"))

    def _read(self, parts: dict[str, nn.Module], x: Tensor) -> list[Tensor]:
        """Queries, keys and values by the head."""
        size = _size(parts, self.heads)
        if "qkv_proj" not in parts:
            return [parts[name](x).unflatten(-1, (-1, size)) for name in ("q_proj", "k_proj", "v_proj")]
        every = parts["qkv_proj"](x).unflatten(-1, (-1, size))
        shared = (every.shape[-2] - self.heads) // 2
        return list(every.split((self.heads, shared, shared), -2))

    def _add(self, host: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.still:
            return output
        added = self(host, named["hidden_states"] if "hidden_states" in named else inputs[0])
        return (output[0] + added.to(output[0].dtype), *output[1:])


def check(model: PreTrainedModel, name: str) -> None:
    """Refuse an attention that is not the usual matrices, and perhaps norms of each head; `model` may lie on the meta device."""
    parts = dict(model.get_submodule(name).named_children())
    norms = [part.get_parameter("weight") for key, part in parts.items() if key in NORMS]
    usual = any(matrices <= parts.keys() <= matrices | set(NORMS) for matrices in (APART, FUSED))
    if not usual or any(len(norm) != _size(parts, model.config.num_attention_heads) for norm in norms):
        raise WorkbenchError(
            f"The attention of this {type(model).__name__} is not the usual one of matrices for queries, keys, values and the output, with "
            "norms of single heads at most. Choose another adapter, such as lora."
        )


def _size(parts: dict[str, nn.Module], heads: int) -> int:
    """Numbers of one head."""
    return parts["o_proj"].get_parameter("weight").shape[1] // heads
