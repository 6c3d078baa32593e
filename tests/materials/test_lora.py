"""An adapter applied to rows of its base equals peft's merge_and_unload; what cannot be applied exactly is refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, OFTConfig, get_peft_model
from pico import make_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.family import open_member
from workbench.materials.lora import read_lora
from workbench.materials.models import ModelRef


def tuned(folder: Path, base: Path, **knobs: object) -> tuple[ModelRef, dict[str, Tensor]]:
    """A random adapter saved by peft on the model of `base`, and the weights that peft makes of the two."""
    model = make_model()
    model.save_pretrained(base)
    peft = get_peft_model(model, LoraConfig(**{"target_modules": ["q_proj", "down_proj"], "r": 4, "lora_alpha": 6, **knobs}))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    peft.save_pretrained(folder)
    return ModelRef("run:0001", "run 0001", str(base), folder), peft.merge_and_unload().state_dict()


@pytest.mark.parametrize("knobs", [
    {}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 9, "layers.1.self_attn.q_proj": 3}},
    {"rank_pattern": {"q_proj": 2}, "use_rslora": True}, {"modules_to_save": ["input_layernorm"]}, {"init_lora_weights": "gaussian"},
    {"init_lora_weights": "mica"},
])  # fmt: skip
def test_rows_equal_what_peft_merges(knobs: dict, tmp_path: Path) -> None:
    ref, expected = tuned(tmp_path / "adapter", tmp_path / "base", **knobs)
    member = open_member(ref)
    names = member.merged_names()
    assert {*names, "lm_head.weight"} == set(expected) and member.tied
    for name in names:
        rows = member.entries[name].rows
        blocks = torch.cat([member.rows(name, start, start + 1) for start in range(rows)])
        assert torch.equal(blocks, member.rows(name, 0, rows)), "a row does not depend on the rows read with it"
        assert torch.allclose(blocks, expected[name], rtol=0, atol=1e-6)
    assert any(not torch.equal(member.rows(name, 0, 1), open_member(ModelRef("", "", ref.path)).rows(name, 0, 1)) for name in names)


def test_the_product_is_rounded_once(tmp_path: Path) -> None:
    ref, _ = tuned(tmp_path / "adapter", tmp_path / "base")
    base, weights = load_file(tmp_path / "base" / "model.safetensors"), load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    left, right = (weights[f"base_model.model.{name}.lora_{side}.weight"].double() for side in "BA")
    expected = (base[f"{name}.weight"].double() + (1.5 * left) @ right).float()
    assert torch.equal(open_member(ref).rows(f"{name}.weight", 0, 32), expected)


def test_an_adapter_on_the_head_parts_it_from_the_embeddings(tmp_path: Path) -> None:
    ref, _ = tuned(tmp_path / "adapter", tmp_path / "base", target_modules=["lm_head"])
    member = open_member(ref)
    assert not member.tied
    head = member.untied()
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    change = 1.5 * weights["base_model.model.lm_head.lora_B.weight"] @ weights["base_model.model.lm_head.lora_A.weight"]
    embedding = head.rows("model.embed_tokens.weight", 0, 400)
    assert torch.equal(embedding, load_file(tmp_path / "base" / "model.safetensors")["model.embed_tokens.weight"])
    assert torch.allclose(head.rows("lm_head.weight", 0, 400), embedding + change, atol=1e-6)


@pytest.mark.parametrize(("knobs", "words"), [
    ({"use_dora": True}, "uses DoRA"), ({"fan_in_fan_out": True}, "stored transposed"),
    ({"alora_invocation_tokens": [1, 2]}, "only after certain tokens"), ({"layer_replication": [[0, 2], [1, 3]]}, "repeats layers"),
    ({"init_lora_weights": "pissa"}, "started with 'pissa', which also moved its base"),
])  # fmt: skip
def test_what_cannot_be_added_exactly_is_refused(knobs: dict, words: str, tmp_path: Path) -> None:
    ref, _ = tuned(tmp_path / "adapter", tmp_path / "base")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **knobs}))
    with pytest.raises(WorkbenchError, match=words):
        open_member(ref)


def test_other_adapters_and_foreign_bases_are_refused(tmp_path: Path) -> None:
    get_peft_model(make_model(), OFTConfig(target_modules=["q_proj"], oft_block_size=4)).save_pretrained(tmp_path / "oft")
    with pytest.raises(WorkbenchError, match=r"run 1 is an adapter of the kind OFT; only LoRA"):
        read_lora(tmp_path / "oft", "run 1")
    ref, _ = tuned(tmp_path / "adapter", tmp_path / "base")
    make_model(hidden_size=16).save_pretrained(tmp_path / "base")
    with pytest.raises(
        WorkbenchError, match=r"The adapter of run 0001 changes .* as 32×64, and its base has 16×64\. It belongs to another"
    ):
        open_member(ref)
    make_model(num_hidden_layers=2).save_pretrained(tmp_path / "base")
    with pytest.raises(WorkbenchError, match=r"changes model\.layers\.2\.mlp\.down_proj\.weight, which its base does not have"):
        open_member(ref)


def test_a_damaged_adapter_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"run 1 has no readable adapter_config\.json"):
        read_lora(tmp_path, "run 1")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 1}))
    with pytest.raises(WorkbenchError, match=r"run 1 has no weights: .*adapter_model\.safetensors is missing"):
        read_lora(tmp_path, "run 1")
    for tensors, words in [
        ({"base_model.model.x.lora_A.weight": torch.ones(2, 3)}, "the two factors of x do not fit"),
        ({"base_model.model.x.lora_A.weight": torch.ones(2, 3), "base_model.model.x.lora_B.weight": torch.ones(3, 3)}, "do not fit"),
        ({"base_model.model.x.lora_embedding_A": torch.ones(2, 3)}, "holds x.lora_embedding_A, which is not applied"),
        ({"base_model.model.x.lora_A.weight": torch.ones(2, 3, dtype=torch.int8)}, "stores x.lora_A.weight as I8"),
    ]:
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        with pytest.raises(WorkbenchError, match=words):
            read_lora(tmp_path, "run 1")
