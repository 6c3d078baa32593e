"""What the blocks of a Llama come apart into: neurons and groups of heads, out of a state dict and back into one.

A unit is a piece of a block that meets the others only in a sum: a neuron of an MLP (gate row, up row, down column), or a group of an
attention (one key/value head, the query heads that look at it, and their columns of o_proj). Their order and number are free. A head
stays whole: rotary positions tie its rows to their places. Mistral, Qwen2 and Qwen3 are built the same way, with biases or norms of
their own. Knows no method; nothing here compares two models.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
HEAD = "lm_head.weight"
HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
_LOOKS, _MIXED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.o_proj"
_READS, _INNER = ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"
_NORM_OF = {**dict.fromkeys(_LOOKS, "input_layernorm.weight"), **dict.fromkeys(_READS, "post_attention_layernorm.weight")}
WRITES = (_MIXED, _INNER)  # their columns are the units'; the rows of all others are

State = Mapping[str, Tensor]
Heard = Mapping[str, Tensor]  # by what writes, as model.layers.0.mlp.down_proj: (S, inputs) float32, what S tokens give it to write
Fused = tuple[dict[str, Tensor], dict[str, Any], list[dict[str, float]]]  # state dict, config.json, and of each block what explains it
Units = dict[str, Tensor]  # by module (units, rows of each, hidden) float64; what reads has its bias, if any, as one more column


@dataclass(frozen=True)
class Shape:
    """What a config says of the sizes: `each` is the length of one head; the flags tell which biases and norms there are."""

    family: str
    layers: int
    hidden: int
    vocabulary: int
    neurons: int
    heads: int
    groups: int
    each: int
    tied: bool
    looks_biased: bool
    mixed_biased: bool
    mlp_biased: bool

    def blocks(self) -> Iterator[str]:
        """What the names of each block's tensors begin with."""
        return (f"model.layers.{number}." for number in range(self.layers))

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the model with its size; the head of a tied one is not among them."""
        words = (self.vocabulary, self.hidden)
        blocks = {at + name: size for at in self.blocks() for name, size in self._block().items()}
        head = {} if self.tied else {HEAD: words}
        return {"model.embed_tokens.weight": words, **blocks, "model.norm.weight": (self.hidden,), **head}

    def _block(self) -> dict[str, tuple[int, ...]]:
        queries, keys = self.heads * self.each, self.groups * self.each
        rows = dict(zip(_LOOKS + _READS, (queries, keys, keys, self.neurons, self.neurons), strict=True))
        block: dict[str, tuple[int, ...]] = {f"{module}.weight": (count, self.hidden) for module, count in rows.items()}
        block |= {f"{_MIXED}.weight": (self.hidden, queries), f"{_INNER}.weight": (self.hidden, self.neurons)}
        block |= dict.fromkeys(_NORM_OF.values(), (self.hidden,))
        biased = (_LOOKS if self.looks_biased else ()) + (_READS if self.mlp_biased else ())
        block |= {f"{module}.bias": (rows[module],) for module in biased}
        biased = ((_MIXED,) if self.mixed_biased else ()) + ((_INNER,) if self.mlp_biased else ())
        block |= {f"{module}.bias": (self.hidden,) for module in biased}
        return block | (dict.fromkeys(HEAD_NORMS, (self.each,)) if self.family == "qwen3" else {})


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The sizes that a config.json tells, its family's own where it is silent; a family that is not one of `FAMILIES` is refused."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise WorkbenchError(f"Units are found in Llama, Mistral, Qwen2 and Qwen3, and this model is {family!r}. {_why(config)}")
    from transformers import AutoConfig  # takes seconds, and only what is fused or pruned needs it

    full = AutoConfig.for_model(family, **{name: value for name, value in config.items() if name != "model_type"}).to_dict()
    biased = family in ("llama", "qwen3") and bool(full["attention_bias"])
    return Shape(
        family=family,
        layers=full["num_hidden_layers"],
        hidden=full["hidden_size"],
        vocabulary=full["vocab_size"],
        neurons=full["intermediate_size"],
        heads=full["num_attention_heads"],
        groups=full["num_key_value_heads"],
        each=full.get("head_dim") or full["hidden_size"] // full["num_attention_heads"],
        tied=bool(full["tie_word_embeddings"]),
        looks_biased=biased or family == "qwen2",
        mixed_biased=biased,
        mlp_biased=family == "llama" and bool(full["mlp_bias"]),
    )


def check(state: State, shape: Shape, label: str) -> None:
    """A `WorkbenchError` unless the state dict has exactly the tensors of the shape, and in them numbers only."""
    wanted = shape.sizes()
    for name in wanted:
        if name not in state:
            raise WorkbenchError(f"{label} lacks {name}, which its config asks for. Fetch its weights again, or the config that is theirs.")
    for name, tensor in state.items():
        if name.endswith("rotary_emb.inv_freq"):  # computed, not learnt; old files have it
            continue
        size = wanted.get(name, wanted["model.embed_tokens.weight"] if name == HEAD else None)
        if size is None:
            raise WorkbenchError(
                f"{label} has {name}, for which a plain {shape.family} model has no place. Use it as it was before it was quantised or "
                "fitted with an adapter."
            )
        if tuple(tensor.shape) != size:
            raise WorkbenchError(
                f"{label} has {name} as {_by(tensor.shape)}, and the config asks for {_by(size)}. Units of different widths do not belong "
                "together; take models that were tuned from one base."
            )
        if not torch.isfinite(tensor).all():
            raise WorkbenchError(f"{label} holds NaN or Inf in {name}. Use a checkpoint from before its training broke.")


def shared(state: State, shape: Shape) -> list[str]:
    """The tensors that belong to no unit, the norms that are folded into units left out; a tied head is one if it is there."""
    inside = {f"{module}.weight" for module in (*_NORM_OF, *WRITES)} | {f"{module}.bias" for module in _NORM_OF} | set(_NORM_OF.values())
    names = dict.fromkeys([*shape.sizes(), *([HEAD] if HEAD in state else [])])
    return [name for name in names if name.removeprefix("model.layers.").partition(".")[2] not in inside]


def neurons(state: State, at: str, shape: Shape) -> Units:
    """The neurons of one block, with up rows and down columns of one length: (c·up, down/c) is the same neuron for every c > 0."""
    units = {module: _reading(state, at, module, shape.neurons) for module in _READS}
    up, down = units["mlp.up_proj"], _writing(state, at, _INNER, shape.neurons)
    scale = (down.norm(dim=2, keepdim=True) / up.norm(dim=2, keepdim=True)).sqrt()
    scale = torch.where(scale.isfinite() & (scale > 0), scale, 1.0)  # where one of them is zero there is nothing to even out
    return {**units, "mlp.up_proj": up * scale, _INNER: down / scale}


def groups(state: State, at: str, shape: Shape) -> Units:
    """The groups of one block's attention: the rows of a group's query heads, of its key and value head, the columns of o_proj."""
    units = {module: _reading(state, at, module, shape.groups) for module in _LOOKS}
    return {**units, _MIXED: _writing(state, at, _MIXED, shape.groups)}


def put(out: dict[str, Tensor], like: State, at: str, units: Units) -> None:
    """Units into the matrices of one block of `out`, rounded once to the types of `like`; the norms folded into them are ones now."""
    for module, parts in units.items():
        weight, bias, rows = f"{at}{module}.weight", f"{at}{module}.bias", parts.flatten(0, 1)
        if module in WRITES:
            out[weight] = rows.T.to(like[weight].dtype).contiguous()
            continue
        hidden = like[weight].shape[1]
        out[weight] = rows[:, :hidden].to(like[weight].dtype).contiguous()
        if bias in like:
            out[bias] = rows[:, hidden].to(like[bias].dtype).contiguous()
        out[at + _NORM_OF[module]] = torch.ones_like(like[at + _NORM_OF[module]])


def _reading(state: State, at: str, module: str, units: int) -> Tensor:
    """(units, rows, hidden) with the norm before them folded in, and the bias, where there is one, as a last column."""
    rows = state[f"{at}{module}.weight"].double() * state[at + _NORM_OF[module]].double()
    if f"{at}{module}.bias" in state:
        rows = torch.cat([rows, state[f"{at}{module}.bias"].double()[:, None]], 1)
    return rows.reshape(units, -1, rows.shape[1])


def _writing(state: State, at: str, module: str, units: int) -> Tensor:
    columns = state[f"{at}{module}.weight"].double().T
    return columns.reshape(units, -1, columns.shape[1])


def _why(config: Mapping[str, Any]) -> str:
    if "moe" in str(config.get("model_type")) or any(name.startswith(("num_experts", "num_local_experts")) for name in config):
        return "Its MLPs are experts behind a router, which would not know what to send to a fused one. Choose another way to merge it."
    return "Other families put norms and matrices together in other ways. Choose another way to merge it."


def _by(size: tuple[int, ...] | torch.Size) -> str:
    return "×".join(map(str, size)) or "a single number"
