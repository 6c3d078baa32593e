"""An adapter folded into its base leaves a model that answers as with the adapter beside it, whatever it moves; else it is refused."""

from pathlib import Path

import pytest
import torch
from peft import AdaptionPromptConfig, LoraConfig, PeftConfig, PromptEncoderConfig, ShiraConfig, get_peft_model
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.models import ModelRef, load


def saved(folder: Path, config: PeftConfig, batch: dict[str, Tensor]) -> tuple[ModelRef, Tensor]:
    """A random adapter on the pico model, saved by peft, and what it makes the model say."""
    model = make_model()
    model.save_pretrained(folder / "base")
    wrapper = get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapper.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    wrapper.save_pretrained(folder / "adapter")
    return ModelRef("run:0001", "run 0001", str(folder / "base"), folder / "adapter"), wrapper.eval()(**batch).logits


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("config", [
    LoraConfig(target_modules=["q_proj"]), LoraConfig(target_modules=["lm_head"]), LoraConfig(target_modules=["embed_tokens"]),
    LoraConfig(target_modules=["lm_head", "embed_tokens"]), LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"]),
    ShiraConfig(target_modules=["lm_head"], r=2), LoraConfig(target_modules=["lm_head"], use_dora=True),
], ids=["matrix", "head", "embeddings", "both", "saved whole", "sparse head", "DoRA head"])  # fmt: skip
def test_it_answers_as_with_the_adapter_though_head_and_embeddings_were_one(config: PeftConfig, pico_batch: dict, tmp_path: Path) -> None:
    ref, expected = saved(tmp_path, config, pico_batch)
    model = load(ref, torch.device("cpu"), torch.float32)
    assert not torch.allclose(make_model()(**pico_batch).logits, expected, atol=1e-3)
    assert torch.allclose(model(**pico_batch).logits, expected, rtol=0, atol=1e-5)
    whole = "q_proj" in config.target_modules and not config.modules_to_save
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is whole is model.config.tie_word_embeddings


@pytest.mark.parametrize(("config", "words"), [
    (PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, encoder_hidden_size=8), "P_TUNING changes no weights"),
    (AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=2, adapter_layers=1), "ADAPTION_PROMPT changes no weights"),
    (LoraConfig(target_modules=["q_proj"], layer_replication=[(0, 2), (1, 3)]), "repeats layers of its base"),
    (LoraConfig(target_modules=["q_proj"], alora_invocation_tokens=[7], task_type="CAUSAL_LM"), "aLoRA does not support merging. Resume"),
])  # fmt: skip
def test_what_is_no_change_of_the_weights_is_a_sentence(config: PeftConfig, words: str, pico_batch: dict, tmp_path: Path) -> None:
    ref, _ = saved(tmp_path, config, pico_batch)
    with pytest.raises(WorkbenchError, match=words):
        load(ref, torch.device("cpu"), torch.float32)
