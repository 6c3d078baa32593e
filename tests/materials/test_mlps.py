"""MLPs by name, in families that lay them out in different ways."""

import pytest
import torch
from pico import make_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from workbench.core.errors import WorkbenchError
from workbench.materials.mlps import Mlp, mlps, outputs_along

SMALL = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_a_gated_mlp() -> None:
    at = "model.layers.2.mlp."
    assert mlps(make_model())[2] == Mlp(f"{at}gate_proj", (f"{at}up_proj",), f"{at}down_proj", 64)
    with torch.device("meta"):
        assert len(mlps(make_model())) == 3


def test_other_families() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2))
    assert mlps(gpt2)[1] == Mlp("transformer.h.1.mlp.c_fc", (), "transformer.h.1.mlp.c_proj", 64)
    assert outputs_along(gpt2, "transformer.h.1.mlp.c_proj") == 1 and outputs_along(make_model(), "model.layers.0.mlp.up_proj") == 0
    neox = mlps(GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL)))
    assert neox[0] == Mlp("gpt_neox.layers.0.mlp.dense_h_to_4h", (), "gpt_neox.layers.0.mlp.dense_4h_to_h", 24)
    phi = mlps(Phi3ForCausalLM(Phi3Config(**SMALL, pad_token_id=0)))
    assert phi[0] == Mlp("model.layers.0.mlp.gate_up_proj", (), "model.layers.0.mlp.down_proj", 24)


@pytest.mark.parametrize(
    ("config", "model"), [(MixtralConfig, MixtralForCausalLM), (Qwen2MoeConfig, Qwen2MoeForCausalLM)], ids=["alone", "beside a shared one"]
)
def test_experts_are_refused_with_a_way_out(config: type[PretrainedConfig], model: type[PreTrainedModel]) -> None:
    with torch.device("meta"):
        found = model(config(**SMALL, num_local_experts=2, num_experts=2, num_key_value_heads=2))
    with pytest.raises(WorkbenchError, match="lift or lora"):
        mlps(found)
