"""Chosen modules: each part is what its name says, from the blocks that are asked for."""

import pytest
from pico import make_model
from transformers import GPT2Config, GPT2LMHeadModel

from workbench.core.errors import WorkbenchError
from workbench.methods.adapters.modules import Modules


def moving(**knobs: object) -> set[str]:
    names = [name for name, _ in Modules(**knobs).attach(make_model(attention_bias=True), seed=0).trained()]
    return {name.replace("model.layers.", "").replace(".weight", "") for name in names}


@pytest.mark.parametrize(
    "part, ends",
    [
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("query, key and value", {"q_proj", "k_proj", "v_proj"}),
        ("MLP", {"gate_proj", "up_proj", "down_proj"}),
        ("MLP gate and up", {"gate_proj", "up_proj"}),
        ("MLP down", {"down_proj"}),
        ("norms", {"input_layernorm", "post_attention_layernorm"}),
    ],
)
def test_parts_of_the_last_block(part: str, ends: set[str]) -> None:
    found = {name.removesuffix(".bias") for name in moving(part=part, last=1)} - {"model.norm"}
    assert {name.rpartition(".")[2] for name in found} == ends and all(name.startswith("2.") for name in found)


def test_parts_of_the_whole_model() -> None:
    assert moving(part="embeddings and head") == {"model.embed_tokens"}
    assert {name.rpartition(".")[2] for name in moving(part="biases")} == {"bias"} and len(moving(part="biases")) == 12
    assert "model.norm" in moving(part="norms") and len(moving(part="norms")) == 7
    assert len(moving(part="everything")) == len(list(make_model(attention_bias=True).parameters()))


def test_names_are_taken_instead_of_the_part() -> None:
    assert moving(names="layers.0.mlp.up_proj, embed_tokens") == {"0.mlp.up_proj", "model.embed_tokens"}
    assert moving(names="up_proj", last=2) == {"1.mlp.up_proj", "2.mlp.up_proj"}


@pytest.mark.parametrize("knobs", [{"part": "biases"}, {"names": "layers.0.*", "last": 1}])
def test_a_choice_of_nothing_is_refused(knobs: dict) -> None:
    with pytest.raises(WorkbenchError, match="nothing would move"):
        Modules(**knobs).cost(make_model())


def test_the_last_norm_is_a_norm_by_any_name() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40))
    norms = {name for name, _ in Modules(part="norms").attach(model, 0).trained()}
    assert {"transformer.ln_f.weight", "transformer.h.0.ln_1.bias"} <= norms and not any("attn" in name for name in norms)
    outside = {name for name, _ in Modules(part="embeddings and head").attach(model, 0).trained()}
    assert outside == {"transformer.wte.weight", "transformer.wpe.weight"}
