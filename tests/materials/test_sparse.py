"""Sparse changes on the disk: peft loads them without us, whatever moved, and their plain form adds up to the tuned weights."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from safetensors.torch import load_file
from torch import Tensor

from workbench.materials.region import RegionAttachment
from workbench.materials.regions import Columns, Elements, Region, Rows
from workbench.materials.sparse import DELTA

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"
NORM, KEY = "model.layers.1.input_layernorm.weight", "model.layers.0.self_attn.k_proj.weight"
MASKS: dict[str, dict[str, Region]] = {
    "entries": {UP: Elements(torch.arange(0, 200, 3)), DOWN: Columns(torch.tensor([1]))},
    "a vector too": {UP: Rows(torch.tensor([5])), NORM: Elements(torch.arange(4))},
    "a whole matrix too": {UP: Rows(torch.tensor([5])), KEY: Rows(torch.arange(16))},
    "a vector alone": {NORM: Elements(torch.arange(4))},
    "embeddings": {"model.embed_tokens.weight": Rows(torch.tensor([7, 9])), UP: Elements(torch.tensor([3]))},
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_peft_loads_it_and_the_plain_form_adds_up(mask: dict[str, Region], pico_batch: dict[str, Tensor], tmp_path: Path) -> None:
    attachment = RegionAttachment(make_model(), mask)
    with torch.no_grad():
        for _, values in attachment.trained():
            values.add_(torch.randn_like(values))
    tuned = attachment.model.eval()(**pico_batch).logits
    attachment.save(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(), tmp_path)
    assert torch.allclose(loaded.eval()(**pico_batch).logits, tuned, atol=1e-4)
    assert torch.allclose(loaded.merge_and_unload().eval()(**pico_batch).logits, tuned, atol=1e-4)
    plain, base = load_file(tmp_path / DELTA), make_model()
    for name in mask:
        whole = base.get_parameter(name).detach().clone()
        whole.view(-1)[plain[f"{name}.idx"].long()] += plain[f"{name}.val"]
        assert torch.allclose(whole, attachment.model.get_parameter(name), atol=1e-6)
        assert plain[f"{name}.idx"].dtype == torch.int32 and len(plain[f"{name}.val"]) == mask[name].gather(whole).numel()
