"""Units: the sizes that transformers makes, apart and together again as the same function, and plain words for what has none."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.materials.units import check, groups, neurons, put, shape_of, shared

SIZES = {
    "vocab_size": 50, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "max_position_embeddings": 64, "tie_word_embeddings": False,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 10},
    "tied llama": {"model_type": "llama", "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral"},
    "qwen2": {"model_type": "qwen2"},
    "qwen3": {"model_type": "qwen3", "head_dim": 10},
    "qwen3 with biases": {"model_type": "qwen3", "head_dim": 10, "attention_bias": True},
}


def config_of(kind: str) -> dict[str, Any]:
    return {**SIZES, **KINDS[kind]}


def state_of(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """What transformers has for this config, in float64 and with every number drawn, norms and biases too."""
    draw = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    shift = {name: float(name.endswith("norm.weight")) for name in model.state_dict()}
    drawn = {name: torch.randn(like.shape, generator=draw, dtype=torch.float64) for name, like in model.state_dict().items()}
    return {
        name: shift[name] + 0.3 * numbers
        for name, numbers in drawn.items()
        if name != "lm_head.weight" or not model.config.tie_word_embeddings
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_sizes_are_those_of_transformers(kind: str) -> None:
    config = config_of(kind)
    assert shape_of(config).sizes() == {name: tuple(tensor.shape) for name, tensor in state_of(config).items()}


def test_a_silent_config_means_what_its_family_means() -> None:
    shape = shape_of({"model_type": "llama", "hidden_size": 48, "num_attention_heads": 8})
    assert (shape.groups, shape.each, shape.tied) == (8, 6, False)
    assert shape_of({"model_type": "qwen3"}).each == 128


@pytest.mark.parametrize("kind", KINDS)
def test_apart_and_together_again_is_the_same_block(kind: str) -> None:
    config = config_of(kind)
    shape, state = shape_of(config), state_of(config)
    whole = {name: state[name] for name in shared(state, shape)}
    for at in shape.blocks():
        put(whole, state, at, neurons(state, at, shape))
        put(whole, state, at, groups(state, at, shape))
    assert whole.keys() == state.keys()
    seen = torch.randn(5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for at in shape.blocks():
        for module, norm in (("self_attn.q_proj", "input_layernorm"), ("self_attn.v_proj", "input_layernorm")):
            torch.testing.assert_close(reads(whole, at, module, norm, seen), reads(state, at, module, norm, seen))
        torch.testing.assert_close(mlp(whole, at, seen), mlp(state, at, seen))
        assert torch.equal(whole[f"{at}self_attn.o_proj.weight"], state[f"{at}self_attn.o_proj.weight"])


def reads(state: dict[str, Tensor], at: str, module: str, norm: str, seen: Tensor) -> Tensor:
    return (seen * state[f"{at}{norm}.weight"]) @ state[f"{at}{module}.weight"].T + state.get(f"{at}{module}.bias", 0.0)


def mlp(state: dict[str, Tensor], at: str, seen: Tensor) -> Tensor:
    gate, up = (reads(state, at, f"mlp.{name}_proj", "post_attention_layernorm", seen) for name in ("gate", "up"))
    return torch.nn.functional.silu(gate) * up @ state[f"{at}mlp.down_proj.weight"].T + state.get(f"{at}mlp.down_proj.bias", 0.0)


def test_a_neuron_has_one_scale_and_an_empty_one_keeps_its_own() -> None:
    config = config_of("llama")
    state, at = state_of(config), "model.layers.1."
    state[f"{at}mlp.up_proj.weight"][3] = 0
    state[f"{at}mlp.down_proj.weight"][:, 4] = 0
    units = neurons(state, at, shape_of(config))
    up, down = units["mlp.up_proj"][:, 0].norm(dim=1), units["mlp.down_proj"][:, 0].norm(dim=1)
    usual = [unit for unit in range(40) if unit not in (3, 4)]
    torch.testing.assert_close(up[usual], down[usual])
    assert up[3] == 0 and down[3] == state[f"{at}mlp.down_proj.weight"][:, 3].norm()
    assert down[4] == 0 and up[4] > 0


def test_a_group_is_its_key_head_and_the_query_heads_that_look_at_it() -> None:
    config = config_of("llama")
    state, at = state_of(config), "model.layers.0."
    state[f"{at}input_layernorm.weight"].fill_(1.0)
    units = groups(state, at, shape_of(config))
    assert {name: tuple(rows.shape) for name, rows in units.items()} == {
        "self_attn.q_proj": (4, 12, 48), "self_attn.k_proj": (4, 6, 48), "self_attn.v_proj": (4, 6, 48), "self_attn.o_proj": (4, 12, 48),
    }  # fmt: skip
    assert torch.equal(units["self_attn.q_proj"][1], state[f"{at}self_attn.q_proj.weight"][12:24])
    assert torch.equal(units["self_attn.k_proj"][1], state[f"{at}self_attn.k_proj.weight"][6:12])
    assert torch.equal(units["self_attn.o_proj"][1], state[f"{at}self_attn.o_proj.weight"][:, 12:24].T)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "gemma3_text"}, "Other families"),
        ({"model_type": "gpt2"}, "Other families"),
        ({}, "None"),
        ({"model_type": "qwen3_moe"}, "experts behind a router"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "experts behind a router"),
    ],
)
def test_other_families_are_told_why(config: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        shape_of(config)


def test_what_does_not_fit_is_named() -> None:
    shape, state = shape_of(config_of("llama")), state_of(config_of("llama"))
    check({**state, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}, shape, "It")
    with pytest.raises(WorkbenchError, match=r"It lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        check({name: tensor for name, tensor in state.items() if name != "model.layers.1.mlp.up_proj.weight"}, shape, "It")
    with pytest.raises(WorkbenchError, match=r"It has model\.layers\.0\.self_attn\.q_proj\.bias, for which"):
        check({**state, "model.layers.0.self_attn.q_proj.bias": torch.ones(48)}, shape, "It")
    with pytest.raises(WorkbenchError, match=r"It has model\.norm\.weight as 47, and the config asks for 48\. Units of different widths"):
        check({**state, "model.norm.weight": torch.ones(47)}, shape, "It")
    with pytest.raises(WorkbenchError, match=r"NaN or Inf in model\.norm\.weight"):
        check({**state, "model.norm.weight": torch.full((48,), float("nan"))}, shape, "It")


def test_a_tied_model_may_bring_its_head_and_no_other() -> None:
    shape, state = shape_of(config_of("tied llama")), state_of(config_of("tied llama"))
    check(state, shape, "It")
    check({**state, "lm_head.weight": state["model.embed_tokens.weight"]}, shape, "It")
    with pytest.raises(WorkbenchError, match=r"lm_head\.weight as 49×48, and the config asks for 50×48"):
        check({**state, "lm_head.weight": torch.ones(49, 48)}, shape, "It")
