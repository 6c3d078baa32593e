"""Folders of prompts and prefixes: plain peft says with them what is said here, and what peft trained is said here as peft says it."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.beside import CONFIG, stays_beside
from workbench.core.errors import WorkbenchError
from workbench.core.method import find
from workbench.materials.inserted import TENSORS, InsertedAttachment, opened

SHAPE = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0}
FAMILIES = {
    "llama": {}, "yarn": {"model_type": "llama", "rope_parameters": YARN}, "qwen3": {"head_dim": 8}, "gemma2": {"head_dim": 16},
    "phi3": {"head_dim": 8}, "glm": {"head_dim": 8}, "cohere": {},
}  # fmt: skip
IDS = torch.tensor([[3, 9, 27, 20, 60, 58, 52, 34], [5, 25, 2, 10, 50, 6, 30, 28]])
KINDS = ["prompt_tuning", "prefix_tuning"]


def base(family: str) -> PreTrainedModel:
    torch.manual_seed(3)
    more = dict(FAMILIES[family])
    config = AutoConfig.for_model(more.pop("model_type", family), **SHAPE, **more)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():  # larger than models start: what stands before a text must be seen in what is said
        parameter.data.mul_(3)
    return model


def learnt(kind: str, family: str = "llama") -> InsertedAttachment:
    """Five tokens that are no longer what they started as."""
    attachment = find("adapters", kind)(tokens=5).attach(base(family), seed=0)
    generator = torch.Generator().manual_seed(1)
    for _, own in attachment.trained():
        own.data.add_(torch.randn(own.shape, generator=generator))
    return attachment


def said(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]


def saved(attachment: InsertedAttachment, folder: Path) -> Path:
    folder.mkdir()
    attachment.save(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_plain_peft_says_what_was_learnt_here(kind: str, family: str, tmp_path: Path) -> None:
    attachment = learnt(kind, family)
    folder = saved(attachment, tmp_path / "saved")
    theirs = PeftModel.from_pretrained(base(family), folder).eval()
    here = said(attachment.model)
    assert torch.allclose(said(theirs), here, atol=2e-4) and not torch.allclose(here, said(base(family)), atol=0.1)
    assert list(load_file(folder / TENSORS)) == ["prompt_embeddings"] and stays_beside(folder)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_back_is_to_the_bit_what_went(kind: str, family: str, tmp_path: Path) -> None:
    attachment = learnt(kind, family)
    again = opened(base(family), saved(attachment, tmp_path / "saved"))
    rounds = 1e-6 if family == "cohere" else 0.0  # its own turning is in single precision
    assert torch.allclose(said(again), said(attachment.model), rtol=0, atol=rounds)


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_a_folder_that_others_trained_with_peft_is_said_as_they_say_it(kind: type, tmp_path: Path) -> None:
    torch.manual_seed(5)
    theirs = get_peft_model(base("llama"), kind(task_type="CAUSAL_LM", num_virtual_tokens=4)).eval()
    theirs.prompt_encoder["default"].embedding.weight.data.normal_()
    theirs.save_pretrained(tmp_path)
    ours = opened(base("llama"), tmp_path)
    assert torch.allclose(said(ours), said(theirs), atol=2e-4) and not torch.allclose(said(ours), said(base("llama")), atol=0.1)
    with torch.no_grad():
        both = [model.generate(input_ids=IDS[:1], max_new_tokens=4, do_sample=False, eos_token_id=None)[0, -4:] for model in (ours, theirs)]
    assert torch.equal(*both)


@pytest.mark.parametrize("kind", KINDS)
def test_where_positions_are_a_table_the_folder_is_of_our_own_and_peft_s_is_refused(kind: str, tmp_path: Path) -> None:
    def gpt2() -> PreTrainedModel:
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()

    attachment = find("adapters", kind)(tokens=3).attach(gpt2(), seed=0)
    folder = saved(attachment, tmp_path / "saved")
    assert "peft_type" not in json.loads((folder / CONFIG).read_text())
    assert torch.equal(said(opened(gpt2(), folder)), said(attachment.model))
    get_peft_model(gpt2(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)).save_pretrained(tmp_path / "theirs")
    with pytest.raises(WorkbenchError, match="Use it with peft"):
        opened(gpt2(), tmp_path / "theirs")


def test_a_folder_of_another_base_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for kind in KINDS:
        folder = saved(learnt(kind), tmp_path / kind)
        torch.manual_seed(0)
        other = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SHAPE | {"hidden_size": 64, "num_hidden_layers": 3}))
        with pytest.raises(WorkbenchError, match="another base"):
            opened(other, folder)
