"""LoftQ (arXiv:2310.08659): what it starts with is the best that rank r can mend, and what it saves is what was learnt alone."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor
from transformers import LlamaForCausalLM

from workbench.core.job import drain
from workbench.materials import rounded
from workbench.materials.evidence import Evidence
from workbench.materials.models import ModelRef, load
from workbench.methods.adapters.loftq import LoftQ, LoftQAttachment

CPU, UP = torch.device("cpu"), "model.layers.1.mlp.up_proj"
NOTHING = Evidence({}, 0, CPU)
HELD = pytest.mark.skipif(rounded.uninstalled() != "", reason="bitsandbytes is not installed")


@pytest.fixture
def ref(tmp_path: Path) -> ModelRef:
    make_model(hidden_size=64, intermediate_size=128, num_key_value_heads=4).save_pretrained(tmp_path)
    return ModelRef("wide", "wide", str(tmp_path))


def begun(model: LlamaForCausalLM, **knobs: object) -> LoftQAttachment:
    adapter = LoftQ(**{"rank": 8, "alpha": 12.0, "dropout": 0.0, **knobs})
    return adapter.attach(model, 0, drain(adapter.study(model, NOTHING)))


def said(model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


@HELD
def test_the_start_is_the_best_that_its_rank_can_give_back(ref: ModelRef) -> None:
    whole, model = load(ref, CPU, torch.float32), load(ref, CPU, torch.float32, four_bits=True)
    lost = whole.get_submodule(UP).weight.detach() - rounded.full(model.get_submodule(UP))
    start = begun(model).starts[UP]
    left, sizes = lost - 1.5 * start.b @ start.a, torch.linalg.svdvals(lost)
    assert left.norm() == pytest.approx(float(sizes[8:].norm()), rel=1e-3), "no matrix of rank 8 leaves less"
    assert torch.allclose(start.a.norm(dim=1), start.b.norm(dim=0), rtol=1e-3), "both factors carry alike"


@HELD
def test_the_mended_base_is_nearer_to_the_model_as_it_was_the_higher_the_rank(ref: ModelRef, pico_batch: dict[str, Tensor]) -> None:
    whole = said(load(ref, CPU, torch.float32), pico_batch)
    away = [(said(load(ref, CPU, torch.float32, four_bits=True), pico_batch) - whole).norm().item()]
    for rank in (8, 32, 64):
        attachment = begun(load(ref, CPU, torch.float32, four_bits=True), rank=rank)
        with attachment.base():
            base = said(attachment.model, pico_batch)
        assert torch.equal(said(attachment.model, pico_batch), base), "which is where it starts"
        away.append((base - whole).norm().item())
    assert away == sorted(away, reverse=True) and away[-1] < 0.05 * away[0], "of 64 directions at most"


@HELD
def test_what_is_saved_is_what_was_learnt_for_the_model_as_it_was(ref: ModelRef, pico_batch: dict[str, Tensor], tmp_path: Path) -> None:
    attachment = begun(load(ref, CPU, torch.float32, four_bits=True), rank=64)  # which mends all there is to mend
    for _, parameter in attachment.trained():
        torch.manual_seed(parameter.numel())
        parameter.data += 0.05 * torch.randn_like(parameter)
    attachment.save(tmp_path / "adapter")
    opened = PeftModel.from_pretrained(load(ref, CPU, torch.float32), tmp_path / "adapter").eval()
    assert torch.allclose(said(opened, pico_batch), said(attachment.model.eval(), pico_batch), atol=1e-3)
    state = {name: tensor.clone() for name, tensor in attachment.state().items()}
    again = begun(load(ref, CPU, torch.float32, four_bits=True), rank=64)
    again.load_state(state)
    assert torch.equal(said(again.model.eval(), pico_batch), said(attachment.model, pico_batch))


def test_beside_a_base_that_was_not_rounded_it_is_lora(pico_batch: dict[str, Tensor]) -> None:
    model = make_model()
    before = said(model, pico_batch)
    attachment = begun(model)
    assert torch.equal(said(attachment.model, pico_batch), before)
    assert all(not start.b.any() and start.a.any() for start in attachment.starts.values())
