"""LayerNorm tuning (arXiv:2312.11420): the norms of the blocks move, in float32 whatever the model is, and peft loads them without us."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import read_lora
from workbench.methods.adapters.layer_norm import LayerNormTuning
from workbench.methods.contracts import Attachment

pytestmark = pytest.mark.filterwarnings("ignore:Unsupported layer type")  # peft says so of every norm of transformers
IDS = torch.arange(5, 25).reshape(2, 10)


def gpt2() -> PreTrainedModel:
    """Norms with shifts."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


def qwen() -> PreTrainedModel:
    """Norms between queries and keys too."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=50, num_hidden_layers=2, **shape)).eval()


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model(IDS).logits


def moved(model: PreTrainedModel, **knobs: bool) -> Attachment:
    attachment = LayerNormTuning(**knobs).attach(model, seed=0)
    for seed, (_, numbers) in enumerate(attachment.trained()):
        nn.init.uniform_(numbers, 0.5, 1.5, generator=torch.Generator().manual_seed(seed))
    attachment.after_step(1)
    return attachment


@pytest.mark.parametrize(("make", "each"), [(make_model, 2 * 32), (gpt2, 4 * 16), (qwen, 2 * 32 + 2 * 16)])
def test_the_norms_of_the_blocks_are_found_by_their_shape(make: Callable[[], PreTrainedModel], each: int) -> None:
    model = make()
    width, shifts = model.config.hidden_size, 2 if make is gpt2 else 1
    assert LayerNormTuning().cost(model).trained == each * model.config.num_hidden_layers
    assert LayerNormTuning(last=True).cost(model).trained == each * model.config.num_hidden_layers + shifts * width
    assert all("norm" in name or ".ln_" in name for name, _ in LayerNormTuning().attach(model, seed=0).trained())


@pytest.mark.parametrize("make", [make_model, gpt2, qwen])
@pytest.mark.parametrize("last", [True, False])
def test_what_is_saved_are_norms_that_peft_opens_without_us(make: Callable[[], PreTrainedModel], last: bool, tmp_path: Path) -> None:
    attachment = moved(make(), last=last)
    attachment.save(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LN_TUNING"
    for opened in (PeftModel.from_pretrained(make(), tmp_path), PeftModel.from_pretrained(make(), tmp_path).merge_and_unload()):
        assert torch.allclose(said(opened), said(attachment.model), atol=1e-5)
    assert not torch.allclose(said(attachment.model), said(make()), atol=1e-2)


def test_steps_that_half_precision_would_swallow_are_kept(tmp_path: Path) -> None:
    """In bfloat16 the next number after 1 is 1.0078: eight steps of a thousandth are one."""
    model = make_model().to(torch.bfloat16)
    attachment = LayerNormTuning().attach(model, seed=0)
    optimizer = torch.optim.SGD([numbers for _, numbers in attachment.trained()], lr=1e-3)
    for step in range(1, 9):
        for _, numbers in attachment.trained():
            numbers.grad = -torch.ones_like(numbers)
        optimizer.step()
        attachment.after_step(step)
    gain = model.model.layers[0].input_layernorm.weight
    assert gain.dtype == torch.bfloat16 and torch.equal(gain, torch.full_like(gain, 1.0078125))
    attachment.save(tmp_path)
    opened = PeftModel.from_pretrained(make_model().to(torch.bfloat16), tmp_path).merge_and_unload()
    assert torch.equal(said(opened), said(model)) and {parameter.dtype for parameter in opened.parameters()} == {torch.bfloat16}


def test_a_model_without_norms_and_a_merge_that_wants_factors_are_told_what_to_do(tmp_path: Path) -> None:
    model = make_model()
    for layer in model.model.layers:
        layer.input_layernorm = layer.post_attention_layernorm = nn.Identity()
    with pytest.raises(WorkbenchError, match="Choose another adapter"):
        LayerNormTuning().cost(model)
    moved(make_model()).save(tmp_path)
    with pytest.raises(WorkbenchError, match="Save as a model"):
        read_lora(tmp_path, "it")
