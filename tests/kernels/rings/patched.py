"""Whole models with every op by its kernel: logits, loss and every gradient as near to float64 as those of the same models without."""

from collections import Counter

import pytest
import torch
from peft import LoraConfig, get_peft_model
from ring import DEVICE, INTERPRETED, draw, far
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from workbench_kernels import qk_rope, rms_norm, swiglu

from workbench.jobs.patching import patched

SHAPE = {
    "vocab_size": 29, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 16,
}  # fmt: skip
LARGER = {"hidden_size": 192, "intermediate_size": 320, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64}
SIZES = [(SHAPE, (2, 3))] + ([] if INTERPRETED else [(SHAPE | LARGER | {"max_position_embeddings": 256}, (3, 150))])


def tiny(family: str, shape: dict[str, int], lora: bool) -> tuple[PreTrainedModel, nn.Module]:
    """A model, and itself with a LoRA or alone."""
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **shape, bos_token_id=None, eos_token_id=None, pad_token_id=0)
    ).to(DEVICE)
    whole = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")) if lora else model
    for place, parameter in enumerate(whole.parameters()):
        norm = parameter.dim() == 1
        parameter.data = float(norm) + draw(*parameter.shape, scale=0.2 if norm else parameter.shape[1] ** -0.5, seed=place)
    return model, whole.eval()


def worked(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """Logits, loss, and the gradient of everything that learns, by name."""
    model.zero_grad()
    found = model(input_ids=ids, labels=ids, use_cache=False)
    found.loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"logits": found.logits.detach(), "loss": found.loss.detach(), **gradients}


@pytest.mark.parametrize("shape, size", SIZES, ids=["tiny", "larger"][: len(SIZES)])
@pytest.mark.parametrize("family, lora", [("llama", False), ("qwen3", True), ("gemma", False)])
def test_a_model_by_kernels_is_the_model(
    family: str, lora: bool, shape: dict[str, int], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()
    for op in (rms_norm, qk_rope, swiglu):
        launch = op._forward
        monkeypatch.setattr(op, "_forward", lambda *given, launch=launch: calls.update([launch._name]) or launch(*given))
    model, whole = tiny(family, shape, lora)
    ids = torch.randint(1, 29, size, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    without = worked(whole, ids)
    with patched(model, everywhere=True) as report:
        found = worked(whole, ids)
    assert not report.left and set(report.replaced) == {"rms_norm", "swiglu", "qk_rope"} | ({"lora_linear"} if lora else set())
    assert calls["glu"] == 2 and calls["rms_norm"] == 5
    assert calls["qk_rope"] == (2 if family == "qwen3" else 4)  # without norms it is its own backward pass
    expected = worked(whole.double(), ids)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert far(found[name], value) <= 4 * far(without[name], value) + 3e-6, f"{name}: {far(found[name], value):.1e}"
