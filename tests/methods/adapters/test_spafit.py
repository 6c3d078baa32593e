"""SPAFIT (arXiv:2405.00201): three groups of blocks from still to most changed, and one folder that peft opens without us."""

import json
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import read_lora
from workbench.methods.adapters.spafit import SPAFIT, SPAFITAttachment
from workbench.methods.updates.adamw import AdamW

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out", "ignore:Careful, disabling adapter layers with bias")
IDS = torch.arange(5, 45).reshape(4, 10)
SMALL = {"vocab_size": 50, "num_hidden_layers": 6, "hidden_size": 16, "num_attention_heads": 2}


def llama() -> PreTrainedModel:
    return make_model(num_hidden_layers=6)


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=6, n_head=2, n_positions=16)).eval()


def qwen() -> PreTrainedModel:
    """Biases of queries, keys and values alone."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SMALL, num_key_value_heads=1, intermediate_size=24)).eval()


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model.eval()(IDS).logits


def learnt(model: PreTrainedModel, **knobs: object) -> SPAFITAttachment:
    """After a few steps; what a bias starts from is 0 and must have moved too."""
    attachment = SPAFIT(**{"rank": 2, "dropout": 0.0, **knobs}).attach(model, seed=0)
    stepper = AdamW(lr=2e-2).begin(attachment.groups())
    for step in (1, 2, 3):
        model(IDS, labels=IDS).loss.backward()
        stepper.step(1.0, lambda: None)
        attachment.after_step(step)
    return attachment


def blocks(attachment: SPAFITAttachment) -> tuple[set[int], set[int]]:
    """Where vectors move, and where there is a LoRA."""
    at = [(int(re.search(r"\.(?:layers|h)\.(\d+)\.", name)[1]), ".lora_" in name) for name, _ in attachment.trained()]
    return {layer for layer, low in at if not low}, {layer for layer, low in at if low}


@pytest.mark.parametrize(
    ("frozen", "upper", "vectors", "lora"),
    [
        (0.34, 0.5, {2, 3, 4, 5}, {4, 5}),
        (0.0, 1.0, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4, 5}),
        (0.99, 0.01, {5}, {5}),
        (0.5, 0.34, {3, 4, 5}, {5}),
    ],
)
def test_the_blocks_fall_into_three_groups(frozen: float, upper: float, vectors: set[int], lora: set[int]) -> None:
    assert blocks(SPAFIT(frozen=frozen, upper=upper).attach(llama(), seed=0)) == (vectors, lora)


@pytest.mark.parametrize(
    ("make", "vectors"),
    [
        (llama, {"input_layernorm.weight", "post_attention_layernorm.weight"}),
        (qwen, {"q_proj.bias", "k_proj.bias", "v_proj.bias"}),
        (gpt2, {"ln_1.bias", "ln_2.bias", "c_attn.bias", "c_proj.bias", "c_fc.bias"}),
    ],
)
def test_the_vectors_are_the_biases_or_where_there_are_none_the_gains_of_the_norms(make: object, vectors: set[str]) -> None:
    attachment = SPAFIT(frozen=0.34).attach(make(), seed=0)
    found = {name.replace(".base_layer", "") for name, _ in attachment.trained() if ".lora_" not in name}
    assert {".".join(name.split(".")[-2:]) for name in found} == vectors
    assert len([name for name in found if name.endswith("ln_1.bias")]) == (4 if make is gpt2 else 0), "one in each block that moves"


@pytest.mark.parametrize("make", [llama, qwen, gpt2])
def test_only_the_declared_numbers_have_moved_and_all_of_them_have(make: object) -> None:
    model, before = make(), dict(make().named_parameters())
    attachment = learnt(model)
    declared = {name.replace(".base_layer", "") for name, _ in attachment.trained() if ".lora_" not in name}
    now = {name.replace(".base_layer", ""): own for name, own in model.named_parameters() if ".lora_" not in name}
    assert {name for name, own in now.items() if not torch.equal(own, before[name])} == declared
    assert all(layer.lora_B["default"].weight.any() for layer in (m for m in model.modules() if "lora_B" in dict(m.named_children())))
    assert SPAFIT(rank=2).cost(make()).trained == sum(numbers.numel() for _, numbers in attachment.trained())


@pytest.mark.parametrize("make", [llama, qwen, gpt2])
def test_one_folder_that_peft_opens_without_us_holds_both(make: object, tmp_path: Path) -> None:
    attachment = learnt(make())
    attachment.save(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"
    PeftModel.from_pretrained(make(), tmp_path).save_pretrained(tmp_path / "again")
    again = PeftModel.from_pretrained(make(), tmp_path / "again")
    for opened in (PeftModel.from_pretrained(make(), tmp_path), PeftModel.from_pretrained(make(), tmp_path).merge_and_unload(), again):
        assert torch.allclose(said(opened), said(attachment.model), atol=1e-5)
    for _, layer in attachment.trained():
        if layer.ndim > 1:
            nn.init.zeros_(layer)
    assert not torch.allclose(said(attachment.model), said(make()), atol=1e-3), "the vectors alone change what is said"


@pytest.mark.parametrize("make", [llama, qwen])
def test_a_merge_reads_both_from_the_folder(make: object, tmp_path: Path) -> None:
    attachment = learnt(make())
    attachment.save(tmp_path)
    read = read_lora(tmp_path, "it")
    vectors = {name.replace(".base_layer", "") for name, numbers in attachment.trained() if numbers.ndim == 1}
    assert set(read.replaced) == vectors and len(read.factors) == 4 * len(blocks(attachment)[1])
    assert read.wanted() and read.touched <= {name for name, _ in make().named_parameters()}


@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_base_comes_back_and_a_state_brings_both_along(make: object) -> None:
    attachment, other = learnt(make()), learnt(make(), dropout=0.1)
    after = said(attachment.model)
    with attachment.base():
        assert torch.equal(said(attachment.model), said(make()))
    other.load_state({name: tensor.clone() for name, tensor in attachment.state().items()})
    assert torch.equal(said(other.model), after) and torch.equal(said(attachment.model), after)
    with attachment.base():
        assert torch.equal(said(attachment.model), said(make()))


def test_a_step_is_told_as_one_of_the_models_own_numbers() -> None:
    attachment = learnt(llama())
    steps = attachment.dense({name: torch.ones_like(numbers) for name, numbers in attachment.trained()})
    shapes = {name: parameter.shape for name, parameter in attachment.model.named_parameters()}
    assert steps.keys() == {name for name, _ in attachment.trained()} and all(step.shape == shapes[name] for name, step in steps.items())


def test_matrices_that_lie_in_lower_blocks_alone_are_no_target() -> None:
    with pytest.raises(WorkbenchError, match="Set upper higher"):
        SPAFIT(modules="layers.0.self_attn.q_proj").cost(llama())
