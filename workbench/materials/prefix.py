"""Keys and values that every token of a text reads before the text's own: a prefix of an attention, in the same softmax as the text.

    y = W_o softmax(q [K_p; K]ᵀ / √d) [V_p; V]

`Prefix`: K_p and V_p of one attention, (heads that share keys and values, tokens, d), are learnt. `Prompt`: tokens are learnt that the
whole model reads before the text, and K_p and V_p are what its blocks make of them; the text never changes that, so they are read by
themselves, once in a pass. Either comes in where an attention would ask its cache for the text so far: what is kept there stays the text
alone, no position moves, and what is read stays as long as it was. What it is not: how they start, which is a method's
(`methods/adapters/prefix_tuning.py`, `prompt_tuning.py`). In one softmax with the text a prefix takes attention away from it whatever its
numbers are [D]: none of them is neutral. Tags: [D] derived.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.materials.beside import Beside

Given = tuple[tuple[Any, ...], dict[str, Any]]  # what a module is called with
THINKING = "prompt_of_workbench"  # told to every block while it reads a prompt by itself, also when it does so again for its gradients


class Prefix(Beside):
    """Of `tokens` tokens, before one attention of so many `heads` for keys and values, each of `size` numbers; all zero until set."""

    def __init__(self, tokens: int, heads: int, size: int):
        super().__init__()
        self.tokens = tokens
        self.keys = nn.Parameter(torch.zeros(heads, tokens, size))
        self.values = nn.Parameter(torch.zeros(heads, tokens, size))

    @classmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        heads, size = sides(model)
        return cls(heads=heads, size=size, **settings)

    def settings(self) -> dict[str, Any]:
        return {"tokens": self.tokens}

    def hook(self, host: nn.Module) -> None:
        host.register_forward_pre_hook(self._before, with_kwargs=True)

    def _before(self, host: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Given | None:
        return None if self.still else before(inputs, named, self.keys, self.values)


class Prompt(Beside):
    """`tokens` of them before all that a backbone of this `width` reads; all numbers zero until they are set."""

    def __init__(self, width: int, tokens: int):
        super().__init__()
        self.prompt = nn.Parameter(torch.zeros(tokens, width))
        self.read = Read()

    @classmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        hosts(model)
        return cls(model.config.hidden_size, **settings)

    def settings(self) -> dict[str, Any]:
        return {"tokens": len(self.prompt)}

    def hook(self, host: nn.Module) -> None:
        assert isinstance(host, PreTrainedModel), "a prompt stands before a whole backbone"
        host.register_forward_pre_hook(self._think, with_kwargs=True)
        for name in hosts(host):
            host.get_submodule(name).register_forward_pre_hook(self._before, with_kwargs=True)

    def _think(self, host: PreTrainedModel, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Read the prompt by itself before anything else is read."""
        if self.still or THINKING in named:
            return
        shown = self.prompt.to(host.get_input_embeddings().weight.dtype)[None]
        host(inputs_embeds=shown, position_ids=places(host, len(self.prompt))[None], use_cache=False, **{THINKING: self})

    def _before(self, host: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Given | None:
        if self.still:
            return None
        if THINKING in named:
            rest = {name: own for name, own in named.items() if name != THINKING}
            return inputs, {**rest, "past_key_values": Taking(self.read, host.layer_idx)}  # type: ignore[arg-type]
        keys, values = self.read[host.layer_idx]  # type: ignore[index]
        return before(inputs, named, keys[0], values[0])


class Read(dict[int, tuple[Tensor, Tensor]]):
    """By block, what it made of a prompt in the last pass; a copy of the model makes its own."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Read":
        return Read()


def before(inputs: tuple[Any, ...], named: dict[str, Any], keys: Tensor, values: Tensor) -> Given:
    """What an attention is called with, with (heads, P, d) keys and values before those of its text.

    Raises:
        WorkbenchError: rows are packed, so that there is no one place before the text.
    """
    if "cu_seq_lens_q" in named:
        raise WorkbenchError(
            "What is learnt stands before a whole sequence, and packing puts several rows into one. Switch packing off, or choose lora."
        )
    shown = named["hidden_states"] if "hidden_states" in named else inputs[0]
    mask, length = named.get("attention_mask"), shown.shape[1]
    if mask is None and length > 1:  # transformers leaves it out where it is the causal one and nothing was read before
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=shown.device).tril()
    if mask is not None:
        seen = mask.new_ones if mask.dtype == torch.bool else mask.new_zeros  # a mask of numbers is added to the scores
        mask = torch.cat([seen((*mask.shape[:-1], keys.shape[1])), mask], -1)
    return inputs, {**named, "attention_mask": mask, "past_key_values": Before(keys, values, named.get("past_key_values"))}


@dataclass
class Before:
    """What an attention takes for its cache: the prefix, then what the cache really holds."""

    keys: Tensor
    values: Tensor
    cache: Cache | None

    def update(self, keys: Tensor, values: Tensor, *where: Any, **more: Any) -> tuple[Tensor, Tensor]:
        if self.cache is not None:
            keys, values = self.cache.update(keys, values, *where, **more)
        return _joined(self.keys, keys), _joined(self.values, values)


def _joined(own: Tensor, text: Tensor) -> Tensor:
    return torch.cat([own.to(text.dtype).expand(len(text), -1, -1, -1), text], 2)


@dataclass
class Taking:
    """What an attention takes for its cache while its keys and values are taken down."""

    found: Read
    layer: int

    def get_seq_length(self, *_: Any) -> int:
        return 0

    def update(self, keys: Tensor, values: Tensor, *where: Any, **more: Any) -> tuple[Tensor, Tensor]:
        self.found[self.layer] = keys, values
        return keys, values


def hosts(model: PreTrainedModel) -> dict[str, int]:
    """The attentions by name, each with its block; `model` may lie on the meta device.

    Raises:
        WorkbenchError: there is not one usual attention in each block.
    """
    every = ((name, module, vars(module).get("layer_idx")) for name, module in model.named_modules())
    found = {name: layer for name, module, layer in every if layer is not None and _matrices(module)}  # blocks know their place too
    if sorted(found.values()) != [*range(model.config.num_hidden_layers)]:
        raise WorkbenchError(
            f"This {type(model).__name__} does not have one usual attention in each block, so nothing can stand before its text. Choose "
            "another adapter, such as lora."
        )
    return found


def _matrices(module: nn.Module) -> list[str]:
    """The matrices of its own by name."""
    return [name for name, child in module.named_children() if isinstance(child, nn.Linear | Conv1D)]


def sides(model: PreTrainedModel) -> tuple[int, int]:
    """How many heads share keys and values, and the numbers of each; `model` may lie on the meta device."""
    told = model.config.to_dict()
    heads = model.config.num_attention_heads
    return told.get("num_key_value_heads") or heads, told.get("head_dim") or model.config.hidden_size // heads


def places(model: PreTrainedModel, tokens: int) -> Tensor:
    """(P,) the positions right before a text. Where they are turned in they count up to −1; a table of positions has none below 0."""
    turned = "rotary_emb" in dict(model.base_model.named_children())
    return torch.arange(tokens, device=model.device) - (tokens if turned else 0)


def drawn(model: PreTrainedModel, tokens: int, seed: int) -> Tensor:
    """(P,) tokens of the vocabulary, by chance."""
    return torch.randint(model.config.vocab_size, (tokens,), generator=torch.Generator().manual_seed(seed)).to(model.device)


def prefixes(model: PreTrainedModel, tokens: int, seed: int) -> dict[str, Prefix]:
    """One for each attention by its name, which starts as what is made of tokens that are drawn; `model` in eval mode."""
    read, found = list(read_before(model, drawn(model, tokens, seed))), dict[str, Prefix]()
    for name, layer in hosts(model).items():
        found[name] = Prefix.at(model, name, tokens=tokens)
        found[name].keys.data, found[name].values.data = (own.cpu().clone() for own in read[layer])
    return found


def counted(model: PreTrainedModel, tokens: int) -> dict[str, int]:
    """How many numbers prefixes have, by the weight of the last matrix of each attention."""
    heads, size = sides(model)
    ends = [f"{name}.{_matrices(model.get_submodule(name))[-1]}.weight" for name in hosts(model)]
    return dict.fromkeys(ends, 2 * tokens * heads * size)


@torch.no_grad()
def read_before(model: PreTrainedModel, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each block the (heads, P, d) keys and values of P tokens, as they are read right before a text; `model` in eval mode."""
    cache = model(input_ids=tokens[None], position_ids=places(model, len(tokens))[None], use_cache=True).past_key_values
    for layer in cache.layers:
        yield layer.keys[0].float(), layer.values[0].float()
