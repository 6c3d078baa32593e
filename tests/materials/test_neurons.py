"""Partial fusion: what the blocks of the fused model compute, how wide it is, that transformers opens it, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fusing import CLOSE, KINDS, MATCHES, answers, both, config_of, fuse, fused, model_of, pair, permuted, rescaled
from pico import make_model
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.neurons import cost


@torch.no_grad()
def parts(model: PreTrainedModel, layer: int, stream: Tensor) -> tuple[Tensor, Tensor]:
    """What one block's attention and its MLP add to this residual stream."""
    block = model.model.layers[layer]
    positions = model.model.rotary_emb(stream, torch.arange(stream.shape[1])[None])
    mask = torch.full((1, 1, stream.shape[1], stream.shape[1]), float("-inf"), dtype=stream.dtype).triu(1)
    attended = block.self_attn(block.input_layernorm(stream), position_embeddings=positions, attention_mask=mask)[0]
    return attended, block.mlp(block.post_attention_layernorm(stream))


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_of_one_model_is_that_model(kind: str, match: str) -> None:
    a, b, config = pair(kind)
    torch.testing.assert_close(answers(fuse(a, b, config, share_b=1.0, match=match)), answers(b), **CLOSE)
    torch.testing.assert_close(answers(fuse(a, b, config, share_b=0.0, match=match)), answers(a), **CLOSE)


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_apart_every_block_gives_both_blocks_by_their_shares(kind: str, match: str) -> None:
    a, b, config = pair(kind)
    model = fuse(a, b, config, share_b=0.3, mlp=1.0, attention=1.0, match=match)
    stream = torch.randn(2, 12, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for layer in range(2):
        for ours, one, other in zip(*(parts(each, layer, stream) for each in (model, a, b)), strict=True):
            assert one.abs().mean() > 0.1
            torch.testing.assert_close(ours, 0.7 * one + 0.3 * other, **CLOSE)


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize(("mlp", "attention"), [(0.0, 0.0), (0.3, 0.5), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("share_b", [0.0, 0.3, 1.0])
def test_a_model_with_itself_is_itself(mlp: float, attention: float, share_b: float, match: str) -> None:
    a, _, config = pair()
    knobs = {"share_b": share_b, "mlp": mlp, "attention": attention, "match": match}
    torch.testing.assert_close(answers(fuse(a, a, config, **knobs)), answers(a), **CLOSE)
    torch.testing.assert_close(answers(fuse(a, model_of(config, rescaled(a)), config, **knobs)), answers(a), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_by_place_a_permuted_copy_is_another_model_unless_all_is_apart(kind: str) -> None:
    a, _, config = pair(kind)
    same = model_of(config, permuted(a))
    torch.testing.assert_close(answers(same), answers(a), **CLOSE)
    torch.testing.assert_close(answers(fuse(a, same, config, share_b=0.3, mlp=1.0, attention=1.0)), answers(a), **CLOSE)
    assert (answers(fuse(a, same, config)) - answers(a)).abs().max() > 0.1  # it pairs strangers: a plain average


@pytest.mark.parametrize("match", MATCHES[1:])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mlp", "attention"), [(0.0, 0.0), (0.3, 0.5)])
def test_unless_by_place_a_permuted_copy_is_the_same_model(kind: str, mlp: float, attention: float, match: str) -> None:
    a, _, config = pair(kind)
    one = fuse(a, model_of(config, permuted(a)), config, share_b=0.3, mlp=mlp, attention=attention, match=match)
    torch.testing.assert_close(answers(one), answers(a), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_by_weights_the_order_of_the_other_model_is_worth_nothing(kind: str) -> None:
    a, far, config = pair(kind)
    near = {name: torch.lerp(tensor, far.state_dict()[name], 0.1) for name, tensor in a.state_dict().items()}
    knobs = {"share_b": 0.3, "mlp": 0.3, "attention": 0.5, "match": "weights"}
    given = fused(a.state_dict(), near, config, **knobs)
    found = fused(a.state_dict(), permuted(model_of(config, near)), config, **knobs)
    torch.testing.assert_close(answers(model_of(given[1], found[0])), answers(model_of(given[1], given[0])), **CLOSE)
    for one, other in zip(given[2], found[2], strict=True):
        assert one.pop("neurons anew") == one.pop("heads anew") == 0
        assert other.pop("neurons anew") > 0.8 and other.pop("heads anew") > 0
        assert other == pytest.approx(one)


@pytest.mark.parametrize(
    ("mlp", "attention", "widths"), [(0, 0, (40, 4, 8)), (0.25, 0, (50, 4, 8)), (0.5, 0.5, (60, 6, 12)), (1, 1, (80, 8, 16))]
)
@pytest.mark.parametrize("match", MATCHES)
def test_the_width_grows_with_what_is_apart(mlp: float, attention: float, widths: tuple[int, int, int], match: str) -> None:
    a, b, config = pair()
    state, wider, _ = both(a, b, config, mlp=mlp, attention=attention, match=match)
    assert (wider["intermediate_size"], wider["num_key_value_heads"], wider["num_attention_heads"], wider["head_dim"]) == (*widths, 6)
    count = sum(tensor.numel() for tensor in state.values())
    # 2 blocks; a neuron is 3 × 48 numbers, a group of 4 query, key and value heads and as many columns as queries is 6 × 6 × 48
    assert count == 30_384 + 2 * (int(mlp * 40) * 3 * 48 + int(attention * 4) * 6 * 6 * 48) == cost(wider)[0]
    assert wider | {name: config.get(name) for name in ("intermediate_size", "num_key_value_heads", "num_attention_heads")} == config | {
        "head_dim": 6
    }


def test_a_share_is_rounded_down_and_one_that_just_falls_short_is_not() -> None:
    config = {**config_of(), "intermediate_size": 100}
    a = model_of(config).state_dict()
    for share, apart in ((0.0099, 0), (0.01, 1), (0.0199, 1), (0.29, 29)):  # 0.29 × 100 is 28.999999999999996 in floats
        wider = fused(a, a, config, share_b=0.5, mlp=share, attention=0, match="place")[1]
        assert wider["intermediate_size"] == 100 + apart


@pytest.mark.parametrize("module", ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"])
def test_apart_is_the_neuron_that_differs_most_and_the_sets_are_nested(module: str) -> None:
    a, _, config = pair()
    changed = {name: tensor.clone() for name, tensor in a.state_dict().items()}
    moved = changed[f"model.layers.1.{module}.weight"]
    moved = moved.T if module.endswith("down_proj") else moved
    for unit, size in ((7, 3.0), (3, 2.0), (20, 1.0)):
        moved[unit] += size * torch.randn(48, dtype=torch.float64, generator=torch.Generator().manual_seed(unit))
    gates = a.state_dict()["model.layers.1.mlp.gate_proj.weight"] * a.state_dict()["model.layers.1.post_attention_layernorm.weight"]
    for count, units in ((1, [7]), (2, [3, 7]), (3, [3, 7, 20]), (4, [0, 3, 7, 20])):  # all others are equal: the first of them follows
        state, _, _ = fused(a.state_dict(), changed, config, share_b=0.5, mlp=count / 40, attention=0, match="place")
        assert torch.equal(state["model.layers.1.mlp.gate_proj.weight"][40 - count : 40], gates[units])


@pytest.mark.parametrize("module", ["q_proj", "k_proj", "v_proj", "o_proj"])
def test_apart_is_the_group_that_differs_most(module: str) -> None:
    a, _, config = pair("qwen2")
    changed = {name: tensor.clone() for name, tensor in a.state_dict().items()}
    each = 6 if module in ("k_proj", "v_proj") else 12
    moved = changed[f"model.layers.0.self_attn.{module}.weight"]
    moved = moved.T if module == "o_proj" else moved
    moved[2 * each : 3 * each] += 0.1
    moved[1 * each : 2 * each] += 0.01  # differs too, and stays in its place
    state, _, _ = fused(a.state_dict(), changed, config, share_b=0.5, mlp=0, attention=0.25, match="place")
    bias = a.state_dict()["model.layers.0.self_attn.k_proj.bias"]
    assert torch.equal(state["model.layers.0.self_attn.k_proj.bias"].view(5, 6), bias.view(4, 6)[[0, 1, 3, 2, 2]])


def test_transformers_opens_it_as_any_llama(tmp_path: Path) -> None:
    a, b, config = pair()
    state, wider, _ = fused(a.state_dict(), b.state_dict(), config, share_b=0.4, mlp=0.3, attention=0.5, match="place")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(wider))
    opened, told = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, attn_implementation="eager", output_loading_info=True)
    assert not any(told[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(answers(opened), answers(model_of(wider, state)))


def test_a_tied_model_stays_tied() -> None:
    a, b = make_model(0), make_model(1)
    for head in (True, False):
        states = [{n: t for n, t in model.state_dict().items() if head or n != "lm_head.weight"} for model in (a, b)]
        state, wider, _ = fused(*states, a.config.to_dict(), share_b=0.5, mlp=0.5, attention=1.0, match="place")
        assert wider["tie_word_embeddings"] and ("lm_head.weight" in state) == head
        torch.testing.assert_close(
            state["model.embed_tokens.weight"], (states[0]["model.embed_tokens.weight"] + states[1]["model.embed_tokens.weight"]) / 2
        )


def test_numbers_are_rounded_once_and_inputs_stay() -> None:
    a, b, config = pair("qwen2")
    halves = [{name: tensor.bfloat16() for name, tensor in model.state_dict().items()} for model in (a, b)]
    before = [{name: tensor.clone() for name, tensor in half.items()} for half in halves]
    knobs = {"share_b": 0.3, "mlp": 0.5, "attention": 0.5, "match": "place"}
    state, _, _ = fused(*halves, config, **knobs)
    exact, _, _ = fused(*({name: tensor.double() for name, tensor in half.items()} for half in halves), config, **knobs)
    assert state.keys() == exact.keys()
    assert all(torch.equal(state[name], exact[name].bfloat16()) for name in exact)
    assert all(torch.equal(half[name], kept[name]) for half, kept in zip(halves, before, strict=True) for name in half)
    assert config == config_of("qwen2")


@pytest.mark.parametrize("match", MATCHES)
def test_heads_that_share_a_norm_stay_together_unless_it_is_one_norm(match: str) -> None:
    a, b, config = pair("qwen3")
    b.model.layers[1].self_attn.k_norm.weight.data[0] += 1
    with pytest.raises(WorkbenchError, match=r"model\.layers\.1\.self_attn\.k_norm\.weight is not the same .* Give 0 for attention"):
        fuse(a, b, config, attention=0.25, match=match)
    norm = fuse(a, b, config, mlp=0.5, match=match).model.layers[1].self_attn.k_norm.weight
    torch.testing.assert_close(norm, (a.model.layers[1].self_attn.k_norm.weight + b.model.layers[1].self_attn.k_norm.weight) / 2)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"share_b": 1.5}, "share_b is 1.5"),
        ({"mlp": -0.1}, "mlp is -0.1"),
        ({"attention": float("nan")}, "attention is nan"),
        ({"attention": 0.25}, "1 of 4 groups kept apart would give 10 query heads.*Give one of these for attention: 0, 0.5, 1"),
    ],
)
def test_what_cannot_be_is_said(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        fuse(*pair(), **knobs)


def test_the_shares_that_are_offered_are_taken() -> None:
    config = {**config_of(), "num_key_value_heads": 3, "num_attention_heads": 6}
    a, b = model_of(config, seed=1), model_of(config, seed=2)
    with pytest.raises(WorkbenchError, match=r"2 of 3 groups kept apart would give 10 query heads.*attention: 0, 0\.334, 1\."):
        fuse(a, b, config, attention=0.7)
    assert fuse(a, b, config, attention=0.334).config.num_attention_heads == 8


def test_models_of_other_widths_or_families_are_refused() -> None:
    a, b, config = pair()
    narrow = model_of({**config, "intermediate_size": 39})
    with pytest.raises(WorkbenchError, match=r"The second model has .*gate_proj\.weight as 39×48, and the config asks for 40×48"):
        fuse(a, narrow, config)
    with pytest.raises(WorkbenchError, match="The first model has"):
        fuse(narrow, b, config)
    with pytest.raises(WorkbenchError, match="this model is 'gemma2'"):
        fuse(a, b, {**config, "model_type": "gemma2"})
