"""OFT (arXiv:2306.07280): blocks of inputs turn, so that no angle between rows and no length of one changes."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import read_lora
from workbench.methods.adapters.oft import OFT
from workbench.methods.contracts import Attachment

IDS = torch.arange(5, 25).reshape(2, 10)
QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.2.mlp.down_proj"


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model(IDS).logits


def turned(model: PreTrainedModel, **knobs: object) -> Attachment:
    """By angles that are far from small."""
    attachment = OFT(**knobs).attach(model, seed=0)
    for seed, (_, turn) in enumerate(attachment.trained()):
        nn.init.normal_(turn, std=0.3, generator=torch.Generator().manual_seed(seed))
    return attachment


@torch.no_grad()
def whole(attachment: Attachment, name: str) -> tuple[Tensor, Tensor]:
    """W and W′, which is what comes out where each input goes in alone."""
    layer = attachment.model.get_submodule(name)
    return layer.base_layer.weight, layer(torch.eye(layer.base_layer.in_features)).T


@pytest.mark.parametrize("name", [QUERY, DOWN])
def test_lengths_of_rows_angles_between_them_and_singular_values_stay(name: str) -> None:
    before, after = whole(turned(make_model(), block=8), name)
    assert (after - before).norm() > 0.3 * before.norm()
    assert torch.allclose(after @ after.T, before @ before.T, atol=1e-5)
    assert torch.allclose(torch.linalg.svdvals(after), torch.linalg.svdvals(before), atol=1e-5)


def test_only_inputs_of_one_block_turn_together() -> None:
    before, after = whole(turned(make_model(), block=8), DOWN)
    for start in range(0, 64, 8):
        own = slice(start, start + 8)
        assert torch.allclose(after[:, own] @ after[:, own].T, before[:, own] @ before[:, own].T, atol=1e-5)


def test_it_counts_blocks() -> None:
    model = make_model()
    inputs = 6 * 32 + 64  # all but the last matrix of a block read the width
    assert OFT(block=8).cost(model).trained == 3 * inputs // 8 * (8 * 7 // 2)
    assert OFT(block=2, targets="attention").cost(model).trained == 3 * 4 * 32 // 2


def test_what_is_saved_is_merged_by_peft_without_us_in_half_precision_too(tmp_path: Path) -> None:
    attachment = turned(make_model())
    attachment.save(tmp_path)
    merged = PeftModel.from_pretrained(make_model(), tmp_path).merge_and_unload()
    assert torch.allclose(said(merged), said(attachment.model), atol=1e-5) and not torch.allclose(
        said(merged), said(make_model()), atol=1e-3
    )
    half = PeftModel.from_pretrained(make_model().to(torch.bfloat16), tmp_path).merge_and_unload()
    assert torch.allclose(said(half).float(), said(merged), atol=0.05) and said(half).dtype == torch.bfloat16


def test_in_half_precision_it_begins_with_what_the_base_says_and_its_angles_are_not_rounded() -> None:
    model = make_model().to(torch.bfloat16)
    first = said(model)
    attachment = OFT().attach(model, seed=0)
    assert torch.equal(said(attachment.model), first) and {turn.dtype for _, turn in attachment.trained()} == {torch.float32}


def test_what_does_not_fit_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="divisor of 32"):
        OFT(block=24).cost(make_model())
    other = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=16))
    with pytest.raises(WorkbenchError, match="LOFT"):
        OFT(block=2).cost(other)
    turned(make_model()).save(tmp_path)
    with pytest.raises(WorkbenchError, match="Save as a model"):
        read_lora(tmp_path, "it")
