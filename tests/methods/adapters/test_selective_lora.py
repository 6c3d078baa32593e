"""Selective LoRA (arXiv:2501.15377): a shut layer is the base's, its gate hears the loss all the same, and only open layers are saved."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from torch import Tensor, nn

from workbench.materials import low_rank
from workbench.materials.lora import read_lora
from workbench.methods.adapters.lora import LoRA
from workbench.methods.adapters.selective_lora import SelectiveAttachment, SelectiveLoRA
from workbench.methods.updates.adamw import AdamW

IDS = torch.arange(5, 45).reshape(4, 10)
QUERY, UP = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model.eval()(IDS).logits


def attached(shut: str | None = None, **knobs: object) -> SelectiveAttachment:
    """Every B is random; `shut` names the only gate that stays on, or "" for none."""
    attachment = SelectiveLoRA(**{"rank": 4, "alpha": 6.0, "dropout": 0.0, **knobs}).attach(make_model(), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, layer in low_rank.layers(attachment.model):
            layer.lora_B["default"].weight.normal_(std=0.3, generator=generator)
            if shut is not None and name != shut:
                attachment.gates[name].level.fill_(0.0999)
    return attachment


def learn(attachment: SelectiveAttachment, steps: int, lr: float = 2e-3) -> None:
    stepper = AdamW(lr=lr).begin(attachment.groups())
    for step in range(1, steps + 1):
        attachment.model(IDS, labels=IDS).loss.backward()
        attachment.before_step(step)
        stepper.step(1.0, lambda: None)


def test_with_every_gate_open_it_is_lora() -> None:
    one, other = SelectiveLoRA(dropout=0.0).attach(make_model(), seed=4), LoRA(dropout=0.0).attach(make_model(), seed=4)
    with torch.no_grad():
        for number, gate in enumerate(one.gates.values()):
            gate.level.fill_(0.1 + number / 7)
    for (name, gated), (_, plain) in zip(low_rank.layers(one.model), low_rank.layers(other.model), strict=True):
        assert torch.equal(gated.lora_A["default"].weight, plain.lora_A["default"].weight), name
        for layer in (gated, plain):
            nn.init.ones_(layer.lora_B["default"].weight)
    assert torch.equal(said(one.model), said(other.model)) and not torch.equal(said(one.model), said(make_model()))


def test_a_shut_layer_adds_nothing_to_the_bit_and_rests() -> None:
    attachment = attached(shut="")
    assert torch.equal(said(attachment.model), said(make_model()))
    attachment.model(IDS, labels=IDS).loss.backward()
    gradients = {name: parameter.grad for name, parameter in attachment.trained()}
    assert all(not gradient.any() for name, gradient in gradients.items() if "lora_gate" not in name)
    assert all(gradient != 0 for name, gradient in gradients.items() if "lora_gate" in name), "so it can open again"


@pytest.mark.parametrize("shut", [None, ""])
def test_the_gradient_of_a_gate_is_that_of_the_layers_scale(shut: str | None) -> None:
    """∂L/∂c at c = 1 or 0, when what the layer adds is multiplied by c."""
    attachment = attached(shut)
    layer, gate = attachment.model.get_submodule(UP), attachment.gates[UP]
    attachment.model(IDS, labels=IDS).loss.backward()
    found, c = gate.level.grad.clone(), torch.tensor(float(gate.on), requires_grad=True)
    with torch.no_grad():
        gate.level.fill_(0.5)
    gate.level.grad, layer.scaling["default"] = None, layer.scaling["default"] * c
    attachment.model(IDS, labels=IDS).loss.backward()
    assert c.grad != 0 and torch.allclose(found, c.grad, rtol=1e-4)


def test_the_penalty_is_the_gradient_of_lambda_times_the_absolute_levels() -> None:
    attachment = attached(penalty=0.25)
    with torch.no_grad():
        attachment.gates[QUERY].level.fill_(-0.3)
    attachment.model(IDS, labels=IDS).loss.backward()
    before = {name: gate.level.grad.clone() for name, gate in attachment.gates.items()}
    attachment.before_step(1)
    added = {name: float(gate.level.grad - before[name]) for name, gate in attachment.gates.items()}
    assert added.pop(QUERY) == pytest.approx(-0.25) and all(one == pytest.approx(0.25) for one in added.values())


def test_a_higher_penalty_leaves_fewer_layers_on() -> None:
    def left(penalty: float) -> int:
        attachment = SelectiveLoRA(rank=4, dropout=0.0, penalty=penalty).attach(make_model(), seed=0)
        learn(attachment, 30, lr=4e-3)
        return sum(gate.on for gate in attachment.gates.values())

    assert left(0) > left(0.01) > left(1) == 0


def test_what_is_saved_are_the_layers_that_are_on_and_any_peft_opens_them(tmp_path: Path) -> None:
    attachment = attached(shut=UP)
    attachment.save(tmp_path)
    assert set(read_lora(tmp_path, "ours").factors) == {f"{UP}.weight"}
    opened = PeftModel.from_pretrained(make_model(), tmp_path)
    assert [name for name, _ in low_rank.layers(opened.get_base_model())] == [UP]
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == [UP]
    assert torch.allclose(said(opened), said(attachment.model), atol=1e-5)
    assert not torch.allclose(said(opened), said(make_model()), atol=1e-3)


def test_where_none_is_on_the_base_is_what_is_saved(tmp_path: Path) -> None:
    attached(shut="").save(tmp_path)
    assert torch.equal(said(PeftModel.from_pretrained(make_model(), tmp_path)), said(make_model()))


def test_it_counts_a_gate_for_each_matrix() -> None:
    model = make_model()
    assert SelectiveLoRA(rank=4).cost(model).trained == LoRA(rank=4).cost(model).trained + 3 * 7


def test_it_tells_how_many_layers_of_each_block_are_on() -> None:
    attachment = attached()
    assert attachment.moving() == {0: 1, 1: 1, 2: 1}
    with torch.no_grad():
        for name, gate in attachment.gates.items():
            gate.level.fill_(0.0 if ".1." in name else 0.2)
        attachment.gates[UP].level.fill_(0.0)
    layer = int(UP.split(".")[2])
    assert attachment.moving() == {own: 0 if own == 1 else 6 / 7 if own == layer else 1 for own in range(3)}
