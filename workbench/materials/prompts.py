"""Prompts and prefixes (`prefix.py`) in folders as peft has them: written so, and made of such a folder, also of one that others trained.

peft puts P tokens at the positions 0 … P − 1 and lets the text go on at P; here the text begins at 0. Where positions are turned in (RoPE)
only their differences count, so a prompt is the same numbers in both [D]. Keys of a prefix are kept as they are after turning, so they are
turned by P places on the way to peft and back on the way here [D]; in double precision, so that what comes back is to the bit what went
(a family that turns in single precision, such as Cohere, rounds).
With a table of positions the two are not the same function, and what was learnt here stays in a folder of our own (`inserted.py`).

What it is not: the same for ever. peft keeps the tokens in its cache, where a window that slides over the text loses them in the end; here
they stay [D]. Tags: [D] derived, [R] read in peft 0.21.2 (peft_model.py).
"""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftConfig, PrefixTuningConfig, PromptTuningConfig
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.beside import Beside
from workbench.materials.prefix import Prefix, Prompt, hosts, sides

LEARNT = "prompt_embeddings"  # the one tensor of such a folder [R]
STEADY = ("default", "linear", "llama3", "yarn")  # ways of turning that do not look at how long a text is


def as_peft(model: PreTrainedModel, modules: Mapping[str, Beside]) -> tuple[PeftConfig, Tensor] | None:
    """peft's config and the one tensor of its folder, if peft can say what `modules` say."""
    kinds = {type(module) for module in modules.values()}
    told: dict[str, Any] = {"task_type": "CAUSAL_LM", "base_model_name_or_path": model.name_or_path, "inference_mode": True,
                            "num_layers": model.config.num_hidden_layers, "num_transformer_submodules": 1}  # fmt: skip
    if kinds == {Prompt} and _turns(model):
        (prompt,) = (module.prompt.detach().float() for module in modules.values() if isinstance(module, Prompt))
        heads = model.config.num_attention_heads
        return PromptTuningConfig(num_virtual_tokens=len(prompt), token_dim=prompt.shape[1], num_attention_heads=heads, **told), prompt
    if kinds == {Prefix} and _turns(model) and _one_way(model):
        own = {name: module for name, module in modules.items() if isinstance(module, Prefix)}
        heads, size = sides(model)
        tokens = next(iter(own.values())).tokens
        config = PrefixTuningConfig(num_virtual_tokens=tokens, token_dim=heads * size, num_attention_heads=heads, **told)
        return config, _flat(model, own, tokens)
    return None


def _flat(model: PreTrainedModel, own: Mapping[str, Prefix], tokens: int) -> Tensor:
    """(P, blocks · 2 · heads · size): what each block's attention reads of each token, keys before values [R]."""
    blocks = sorted(hosts(model).items(), key=lambda host: host[1])
    both = [(_turned(model, own[name].keys, tokens), own[name].values.double()) for name, _ in blocks]
    return torch.stack([torch.stack(pair) for pair in both]).permute(3, 0, 1, 2, 4).reshape(tokens, -1).detach()


def of_peft(model: PreTrainedModel, told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Beside]:
    """The modules of a peft folder of prompts or a prefix, by the names of those that they stand beside.

    Raises:
        WorkbenchError: positions of this model are not turned in as peft's folder needs it; KeyError, RuntimeError: it does not fit.
    """
    learnt, prefix = tensors[LEARNT], told["peft_type"] == "PREFIX_TUNING"
    if not _turns(model) or (prefix and not _one_way(model)):
        raise WorkbenchError(
            f"The adapter is {told['peft_type']} of peft, which moves the text to later positions, and this {type(model).__name__} has no "
            "positions that can be moved back. Use it with peft, or train prompt_tuning or prefix_tuning here."
        )
    if not prefix:
        prompt = Prompt.at(model, model.base_model_prefix, tokens=len(learnt))
        prompt.load_state_dict({"prompt": learnt})
        return {model.base_model_prefix: prompt}
    heads, size = sides(model)
    read = learnt.double().view(len(learnt), model.config.num_hidden_layers, 2, heads, size).permute(1, 2, 3, 0, 4)
    return {name: _prefix(model, name, *read[layer]) for name, layer in hosts(model).items()}


def _prefix(model: PreTrainedModel, name: str, keys: Tensor, values: Tensor) -> Prefix:
    tokens = keys.shape[1]
    prefix = Prefix.at(model, name, tokens=tokens)
    prefix.load_state_dict({"keys": _turned(model, keys, -tokens).float(), "values": values.float()})
    return prefix


def _turns(model: PreTrainedModel) -> bool:
    """Whether positions are turned in, each in the same way however long the text is."""
    rotary = dict(model.base_model.named_children()).get("rotary_emb")
    kinds = vars(rotary).get("rope_type") if rotary is not None else None
    return bool(kinds) and set(kinds.values() if isinstance(kinds, dict) else [kinds]) <= {*STEADY}  # a kind for each kind of block


def _one_way(model: PreTrainedModel) -> bool:
    """Whether all blocks turn alike."""
    return isinstance(vars(model.base_model.get_submodule("rotary_emb"))["rope_type"], str)


def _turned(model: PreTrainedModel, keys: Tensor, places: int) -> Tensor:
    """(heads, P, size) keys as they are so many places later, in double precision, by the model's own way of turning."""
    shown = keys.detach().to(model.device).double()[None]
    where = torch.tensor([[abs(places)]], device=model.device)
    cosine, sine = model.base_model.get_submodule("rotary_emb")(shown.float(), where)  # times a factor, of some kinds
    angle = torch.atan2(sine.double(), cosine.double()) * (1 if places > 0 else -1)
    turn = vars(sys.modules[type(model.base_model).__module__])["apply_rotary_pos_emb"]
    return turn(shown, shown, angle.cos(), angle.sin())[1][0].cpu()
