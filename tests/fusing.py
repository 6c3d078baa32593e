"""Two models whose every number is drawn, the same model in other words, what they say, and one model of two."""

from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from workbench.core.job import drain
from workbench.materials import neurons
from workbench.materials.units import WRITES, Heard

WIDTHS = {"vocab_size": 50, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 8,
          "num_key_value_heads": 4, "max_position_embeddings": 64, "tie_word_embeddings": False}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 10},
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 10},
}
MATCHES = ("place", "weights", "activations")
IDS = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(3))
CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # the norms and the softmax of transformers are in float32, whatever the weights


def config_of(kind: str = "llama") -> dict[str, Any]:
    return {**WIDTHS, **KINDS[kind]}


def model_of(config: dict[str, Any], state: dict[str, Tensor] | None = None, seed: int = 0) -> PreTrainedModel:
    """A float64 model with these weights, or with drawn ones: norms, biases and all."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager").double().eval()
    draw = torch.Generator().manual_seed(seed)
    own = model.state_dict()
    drawn = {
        name: 0.3 * torch.randn(like.shape, generator=draw, dtype=like.dtype) + name.endswith("norm.weight") for name, like in own.items()
    }
    model.load_state_dict(drawn if state is None else state)
    return model


def pair(kind: str = "llama") -> tuple[PreTrainedModel, PreTrainedModel, dict[str, Any]]:
    """Two models that differ everywhere, but for the q_norm and k_norm of Qwen3."""
    config = config_of(kind)
    a, b = model_of(config, seed=1), model_of(config, seed=2)
    b.load_state_dict({name: tensor for name, tensor in a.state_dict().items() if "q_norm" in name or "k_norm" in name}, strict=False)
    return a, b, config


def fused(*given: Any, **knobs: Any) -> tuple[dict[str, Tensor], dict[str, Any], list[dict[str, float]]]:
    """As `neurons.fused`, run to its end."""
    return drain(neurons.fused(*given, **{"share_b": 0.5, "mlp": 0.0, "attention": 0.0, "match": "place", **knobs}))


def both(a: PreTrainedModel, b: PreTrainedModel, config: dict[str, Any], **knobs: Any) -> tuple[dict[str, Tensor], dict, list[dict]]:
    """As `fused`, of models, which are asked for what they say."""
    return fused(a.state_dict(), b.state_dict(), config, heard=[heard_of(a), heard_of(b)], **knobs)


def fuse(a: PreTrainedModel, b: PreTrainedModel, config: dict[str, Any], **knobs: Any) -> PreTrainedModel:
    state, wider, _ = both(a, b, config, **knobs)
    return model_of(wider, state)


@torch.no_grad()
def heard_of(model: PreTrainedModel) -> Heard:
    """What the modules that write are given at the tokens of `IDS`."""
    heard: dict[str, Tensor] = {}
    named = [(name, module) for name, module in model.named_modules() if name.endswith(WRITES)]
    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: heard.update({name: given[0].flatten(0, 1).float()}))
        for name, module in named
    ]
    model(IDS)
    for hook in hooks:
        hook.remove()
    return heard


@torch.no_grad()
def answers(model: PreTrainedModel) -> Tensor:
    return model(IDS).logits


def rescaled(model: PreTrainedModel) -> dict[str, Tensor]:
    """The same function with every neuron in another scale."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for layer in range(2):
        scale = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(layer)).exp()
        for name in (name for name in state if f"layers.{layer}.mlp.up_proj" in name):
            state[name] = torch.einsum("n,n...->n...", scale, state[name])
        state[f"model.layers.{layer}.mlp.down_proj.weight"] /= scale
    return state


def turned(rows: Tensor, order: Tensor) -> Tensor:
    return rows.unflatten(0, (len(order), -1))[order].flatten(0, 1)


def permuted(model: PreTrainedModel) -> dict[str, Tensor]:
    """The same function with neurons, groups, and the query heads within each group in another order."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    draw = torch.Generator().manual_seed(5)
    for layer in range(2):
        neurons, groups = torch.randperm(40, generator=draw), torch.randperm(4, generator=draw)
        heads = torch.cat([2 * group + torch.randperm(2, generator=draw) for group in groups])
        for module, order in (("q_proj", heads), ("k_proj", groups), ("v_proj", groups), ("gate_proj", neurons), ("up_proj", neurons)):
            for name in (name for name in state if f"layers.{layer}." in name and f".{module}." in name):
                state[name] = turned(state[name], order)
        for module, order in (("self_attn.o_proj", heads), ("mlp.down_proj", neurons)):  # their biases belong to no unit
            name = f"model.layers.{layer}.{module}.weight"
            state[name] = turned(state[name].T, order).T
    return state
