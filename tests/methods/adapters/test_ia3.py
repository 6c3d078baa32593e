"""(IA)³ (arXiv:2205.05638): keys and values are multiplied, and what the MLP's last matrix reads; in the end rows and columns are."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import read_lora
from workbench.methods.adapters.ia3 import IA3
from workbench.methods.contracts import Attachment

IDS = torch.arange(5, 25).reshape(2, 10)
KEY, VALUE, DOWN = "model.layers.0.self_attn.k_proj", "model.layers.1.self_attn.v_proj", "model.layers.2.mlp.down_proj"


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16)).eval()


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model(IDS).logits


def scaled(model: PreTrainedModel) -> Attachment:
    """Vectors that are far from ones."""
    attachment = IA3().attach(model, seed=0)
    for seed, (_, vector) in enumerate(attachment.trained()):
        nn.init.uniform_(vector, 0.5, 1.5, generator=torch.Generator().manual_seed(seed))
    return attachment


@pytest.mark.parametrize(("name", "side"), [(KEY, 0), (VALUE, 0), (DOWN, 1)])
def test_outputs_of_keys_and_values_are_multiplied_and_inputs_of_the_down_matrix(name: str, side: int) -> None:
    attachment = scaled(make_model())
    layer = attachment.model.get_submodule(name)
    vector = layer.ia3_l["default"].detach().flatten()
    weight = layer.base_layer.weight.detach()
    wanted = weight * (vector[:, None] if side == 0 else vector)
    assert torch.allclose(layer(torch.eye(weight.shape[1])).T, wanted, atol=1e-6)


def test_it_counts_keys_values_and_inner_activations() -> None:
    model = make_model()
    assert IA3().cost(model).trained == 3 * (16 + 16 + 64)
    assert IA3(scaled="keys and values").cost(model).trained == 3 * (16 + 16) and IA3(scaled="MLP").cost(model).trained == 3 * 64
    assert IA3().cost(gpt2()).trained == 2 * (3 * 16 + 64), "all of the matrix that holds queries, keys and values"


@pytest.mark.parametrize("make", [make_model, gpt2])
def test_what_is_saved_is_merged_by_peft_without_us(make: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    attachment = scaled(make())
    attachment.save(tmp_path)
    merged = PeftModel.from_pretrained(make(), tmp_path).merge_and_unload()
    assert torch.allclose(said(merged), said(attachment.model), atol=1e-5) and not torch.allclose(said(merged), said(make()), atol=1e-3)
    assert type(merged) is type(make())


def test_in_half_precision_it_begins_with_what_the_base_says_and_its_vectors_are_not_rounded() -> None:
    model = make_model().to(torch.bfloat16)
    first, random = said(model), torch.get_rng_state()
    attachment = IA3().attach(model, seed=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(said(attachment.model), first) and {vector.dtype for _, vector in attachment.trained()} == {torch.float32}
    assert said(scaled(make_model().to(torch.bfloat16)).model).dtype == torch.bfloat16


def test_a_model_without_such_matrices_and_a_merge_that_wants_factors_are_told_what_to_do(tmp_path: Path) -> None:
    model = make_model()
    for layer in model.model.layers:
        layer.mlp = nn.Identity()
    with pytest.raises(WorkbenchError, match="Choose something else"):
        IA3().cost(model)
    assert IA3(scaled="keys and values").cost(model).trained == 3 * (16 + 16)
    IA3().attach(make_model(), seed=0).save(tmp_path)
    with pytest.raises(WorkbenchError, match="Save as a model"):
        read_lora(tmp_path, "it")
