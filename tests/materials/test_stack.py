"""A model's layers in another order: names, lists by layer in the config, and families that tell layers apart by number."""

from typing import Any

import pytest
from transformers import LlamaConfig, Qwen3MoeConfig

from workbench.materials.family import Member
from workbench.materials.stack import layers_of, misfits, renumbered, stacked_config, towers, unclear

SOURCES = [0, 1, 1, 3]


def member(*names: str) -> Member:
    return Member("m", {}, dict.fromkeys(names))  # type: ignore[arg-type]


def test_names_are_counted_anew_and_the_rest_stays_in_its_order() -> None:
    held = {"model.layers.1.up": "b", "head": "h", "model.layers.0.up": "a", "model.layers.2.up": "c", "h.3.mlp.experts.1.w": "d"}
    assert list(renumbered(held, SOURCES).items()) == [
        ("model.layers.1.up", "b"), ("model.layers.2.up", "b"), ("head", "h"), ("model.layers.0.up", "a"), ("h.3.mlp.experts.1.w", "d"),
    ]  # fmt: skip


def test_layers_and_towers_are_counted() -> None:
    assert layers_of(member("model.layers.0.a", "model.layers.11.a", "x")) == 12 and layers_of(member("x")) == 0
    assert towers(member("model.layers.0.a", "model.layers.1.a", "x")) == ["model.layers."]
    assert len(towers(member("vision.layers.0.a", "model.layers.0.a"))) == 2


@pytest.mark.parametrize(
    ("names", "config", "words"),
    [
        (["layers.0.a", "layers.1.a"], {"num_hidden_layers": 2}, ""),
        (
            ["layers.0.a", "layers.1.a"],
            {"text_config": {"num_hidden_layers": 2}},
            "does not say how many layers there are, and its files hold 2",
        ),
        (["layers.0.a", "layers.1.a"], {"n_layer": 1}, "says 1 layers, and its files hold 2"),
        (["vision.layers.0.a", "text.layers.0.a"], {"n_layer": 1}, "has layers in 2 places (text.layers., vision.layers.)"),
        (["a"], {"n_layer": 1}, "has no layers that are numbered"),
    ],
)
def test_what_cannot_be_stacked_is_said(names: list[str], config: dict, words: str) -> None:
    said = unclear(Member("m", config, dict.fromkeys(names)))  # type: ignore[arg-type]
    assert words in said and bool(words) is bool(said)


def test_lists_with_an_entry_a_layer_follow_and_others_stay() -> None:
    config: dict[str, Any] = {
        "model_type": "unheard of", "num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"], "ffn_multipliers": [1, 2, 3, 4],
        "eos_token_id": [7, 8, 9, 10], "mlp_only_layers": [1, 2], "max_window_layers": 4, "short": [1, 2],
    }  # fmt: skip
    assert stacked_config(config, SOURCES) == {
        **config, "layer_types": ["a", "b", "b", "d"], "ffn_multipliers": [1, 2, 2, 4], "mlp_only_layers": [1, 2],
    }  # fmt: skip
    longer = stacked_config(config, [0, 1, 2, 3, 2, 3])
    assert (longer["num_hidden_layers"], longer["max_window_layers"], longer["mlp_only_layers"]) == (6, 6, [1, 2, 4])
    assert stacked_config({**config, "max_window_layers": 2}, [1, 2, 3, 0])["max_window_layers"] == 1, "as many of the first as are wide"
    assert stacked_config(config, [0, 1, 2, 3]) == config
    plain = {"model_type": "qwen2", "num_hidden_layers": 2}
    assert stacked_config(plain, [0, 1]) == plain and stacked_config(plain, [1, 0])["layer_types"] == ["full_attention"] * 2


def test_other_words_for_the_number_of_layers() -> None:
    assert stacked_config({"model_type": "gpt2", "n_layer": 2}, [0, 1, 1])["n_layer"] == 3


@pytest.mark.parametrize(("sources", "count"), [([0, 1, 0, 1], 0), ([1, 0], 2), ([0, 2, 1], 2)])
def test_layers_that_would_be_built_otherwise_are_found(sources: list[int], count: int) -> None:
    """Every second layer of this one has experts."""
    config = Qwen3MoeConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, num_experts=2, num_experts_per_tok=1, decoder_sparse_step=2,
    ).to_dict()  # fmt: skip
    found = list(misfits(config, stacked_config(config, sources), sources))
    assert len(found) == count and all("would be built unlike layer" in sentence for sentence in found)


def test_a_family_whose_layers_are_alike_has_no_misfits_and_an_unknown_one_is_not_looked_at() -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2
    ).to_dict()
    assert list(misfits(config, stacked_config(config, [2, 0]), [2, 0])) == []
    assert list(misfits({"model_type": "unheard of"}, {"model_type": "unheard of"}, [0])) == []
