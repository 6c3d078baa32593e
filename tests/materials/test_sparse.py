"""Sparse changes on the disk: peft loads them without us, whatever moved, and their plain form adds up to the tuned weights."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from safetensors.torch import load_file
from torch import Tensor

from workbench.core.targeted import Parted
from workbench.materials.region import RegionAttachment
from workbench.materials.regions import Columns, Elements, Region, Rows
from workbench.materials.sparse import DELTA, _plain

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
    assert loaded.peft_config["default"].r == 1, "the smallest that has room"
    plain, base = load_file(tmp_path / DELTA), make_model()
    for name in mask:
        whole = base.get_parameter(name).detach().clone()
        whole.view(-1)[plain[f"{name}.idx"].long()] += plain[f"{name}.val"]
        assert torch.allclose(whole, attachment.model.get_parameter(name), atol=1e-6)
        assert plain[f"{name}.idx"].dtype == torch.int32 and len(plain[f"{name}.val"]) == mask[name].gather(whole).numel()


def test_what_was_written_last_is_saved_though_nobody_has_read_the_model(pico_batch: dict[str, Tensor], tmp_path: Path) -> None:
    attachment = RegionAttachment(make_model(), MASKS["a vector too"])
    with torch.no_grad():
        for _, values in attachment.trained():
            values.add_(1.0)
    attachment.save(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(), tmp_path)
    assert torch.allclose(loaded.eval()(**pico_batch).logits, attachment.model.eval()(**pico_batch).logits, atol=1e-4)


def test_the_change_keeps_digits_that_the_weight_has_no_room_for(tmp_path: Path) -> None:
    model = make_model().to(torch.bfloat16)
    with torch.no_grad():
        model.get_parameter(UP).fill_(1.0)
    attachment = RegionAttachment(model, {UP: Rows(torch.tensor([0]))})
    with torch.no_grad():
        attachment.trained()[0][1].add_(1e-4)
    attachment.save(tmp_path)
    change = load_file(tmp_path / DELTA)[f"{UP}.val"]
    assert torch.allclose(change, torch.full_like(change, 1e-4), rtol=1e-2)


def test_a_matrix_of_one_row_has_no_room_and_is_not_chosen(pico_batch: dict[str, Tensor], tmp_path: Path) -> None:
    """As the gate of a shared expert: where a vector alone moved, peft is given some matrix that does not move, and not this one."""

    def gated() -> torch.nn.Module:
        model = make_model()
        model.model.layers[0].mlp.gate = torch.nn.Linear(32, 1, bias=False)
        return model

    attachment = RegionAttachment(gated(), MASKS["a vector alone"])
    attachment.save(tmp_path)
    loaded = PeftModel.from_pretrained(gated(), tmp_path)
    assert torch.equal(loaded.eval()(**pico_batch).logits, attachment.model.eval()(**pico_batch).logits)


def test_places_are_wide_where_they_must_be() -> None:
    places = {"small": [0, 2**31 - 1], "large": [0, 2**31], "none": []}
    written = _plain({name: (torch.tensor(own, dtype=torch.int64), torch.zeros(len(own))) for name, own in places.items()})
    assert {name: written[f"{name}.idx"].tolist() for name in places} == places
    assert {name: written[f"{name}.idx"].dtype for name in places} == {"small": torch.int32, "large": torch.int64, "none": torch.int32}


def test_a_number_takes_in_memory_and_on_the_disk_what_is_told(tmp_path: Path) -> None:
    attachment = RegionAttachment(make_model(), {UP: Elements(torch.arange(0, 96 * 5, 5))})  # as many as peft's r of 1 has room for
    attachment.save(tmp_path)
    written = [tensor for path in tmp_path.glob("*.safetensors") for tensor in load_file(path).values()]
    assert sum(tensor.nbytes for tensor in written) == 96 * Parted.stored
    assert sum(tensor.nbytes for tensor in attachment.state().values()) == 96 * Parted.held
