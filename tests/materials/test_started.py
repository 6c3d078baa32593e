"""A LoRA that starts elsewhere than at zero: its base is untouched, its start says nothing, and A and B learn as in a base without it."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pico import make_model
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.core.rank import Ranked
from workbench.materials import low_rank
from workbench.materials.started import Started, StartedAttachment

KNOBS = Ranked(rank=3, alpha=6.0, dropout=0.0)
IDS = torch.arange(5, 45).reshape(4, 10)


def anywhere(seed: int = 0) -> dict[str, Tensor]:
    """A start of the size of the matrices themselves."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: matrix.shape for name, matrix in low_rank.upright(make_model(), "all linear").items()}
    return {
        f"{name}.{side}": 0.1 * torch.randn(shape, generator=generator)
        for name, (outs, ins) in shapes.items()
        for side, shape in (("A", (3, ins)), ("B", (outs, 3)))
    }


def started(model: nn.Module | None = None, knobs: Ranked = KNOBS, seed: int = 0) -> StartedAttachment:
    return StartedAttachment(low_rank.wrapped(model or make_model(), knobs, seed), anywhere(seed))


def taken_out() -> tuple[PeftModel, dict[str, nn.Parameter]]:
    """The same model as the papers build it: W − sB₀A₀ + sBA, as plain peft layers; and what learns there."""
    model, starts = get_peft_model(make_model(), LoraConfig(r=3, lora_alpha=6, target_modules="all-linear")), anywhere()
    with torch.no_grad():
        for name, layer in low_rank.layers(model.get_base_model()):
            a, b = starts[f"{name}.A"], starts[f"{name}.B"]
            layer.lora_A["default"].weight.copy_(a)
            layer.lora_B["default"].weight.copy_(b)
            layer.base_layer.weight -= 2.0 * b @ a
    return model, {name: parameter for name, parameter in model.get_base_model().named_parameters() if parameter.requires_grad}


@torch.no_grad()
def said(model: nn.Module) -> Tensor:
    return model.eval()(IDS).logits


def learn(model: nn.Module, parameters: list[nn.Parameter], steps: int = 4) -> None:
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    for _ in range(steps):
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def learning(attachment: StartedAttachment) -> list[nn.Parameter]:
    return [parameter for _, parameter in attachment.trained()]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_at_the_start_nothing_is_said_in_any_precision_with_dropout_too(kind: torch.dtype) -> None:
    model = make_model().to(kind)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind != torch.float32):
        before = said(model)
        attachment = started(model, Ranked(rank=3, alpha=6.0, dropout=0.5))
        with torch.no_grad():
            assert torch.equal(attachment.model.train()(IDS).logits, before)


def test_it_learns_as_a_lora_does_in_a_base_that_the_start_was_taken_out_of() -> None:
    attachment, (theirs, parameters) = started(), taken_out()
    assert torch.allclose(said(theirs), said(make_model()), atol=1e-4)
    attachment.model(IDS, labels=IDS).loss.backward()
    theirs(IDS, labels=IDS).loss.backward()
    for name, parameter in attachment.trained():
        assert torch.allclose(parameter.grad, parameters[name].grad, rtol=1e-3, atol=1e-5), name
    learn(attachment.model, learning(attachment))
    learn(theirs, list(parameters.values()))
    assert torch.allclose(said(attachment.model), said(theirs), atol=1e-4)
    assert not torch.allclose(said(attachment.model), said(make_model()), atol=0.02)


def test_the_base_is_untouched() -> None:
    model = make_model()
    held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attachment = started(model)
    learn(attachment.model, learning(attachment))
    after = attachment.model.state_dict()
    assert all(torch.equal(after[name.replace("_proj.", "_proj.base_layer.")], tensor) for name, tensor in held.items())


def test_what_is_saved_is_a_plain_lora_of_twice_the_rank_for_the_clean_base(tmp_path: Path) -> None:
    attachment = started()
    learn(attachment.model, learning(attachment))
    attachment.save(tmp_path)
    opened = PeftModel.from_pretrained(make_model(), tmp_path)
    config = opened.peft_config["default"]
    assert (config.r, config.lora_alpha / config.r, config.init_lora_weights) == (6, 2.0, True)
    assert torch.allclose(said(opened), said(attachment.model), atol=1e-5)


def test_a_small_change_of_a_large_start_is_not_lost_in_half_precision() -> None:
    attachment = started()
    layer = next(layer for _, layer in low_rank.layers(attachment.model))
    with torch.no_grad():
        layer.lora_B["default"].weight += 1e-3
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    exact = 2.0 * (x @ layer.lora_A["default"].weight.T).sum(-1, keepdim=True) * 1e-3
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        change = layer.lora_variant["default"].forward(layer, "default", x, torch.zeros(5, 32))
    assert torch.allclose(change.float(), exact.expand(5, 32), rtol=0.02, atol=2e-5)


def test_a_state_brings_its_own_start_along() -> None:
    attachment = started()
    learn(attachment.model, learning(attachment))
    state = {name: tensor.clone() for name, tensor in attachment.state().items()}
    other = started(seed=9)
    other.load_state(state)
    learn(attachment.model, learning(attachment))
    learn(other.model, learning(other))
    assert torch.equal(said(other.model), said(attachment.model))


def test_it_can_be_saved_again_and_takes_the_room_that_was_told(tmp_path: Path) -> None:
    """What is written at a stop is written once more at the end."""
    attachment, files = started(), list[dict[str, Tensor]]()
    learn(attachment.model, learning(attachment))
    for name in ("stop", "end"):
        (tmp_path / name).mkdir()
        attachment.save(tmp_path / name)
        files.append(load_file(tmp_path / name / "adapter_model.safetensors"))
    assert (tmp_path / "stop" / "adapter_config.json").read_text() == (tmp_path / "end" / "adapter_config.json").read_text()
    assert files[0].keys() == files[1].keys() and all(torch.equal(tensor, files[1][name]) for name, tensor in files[0].items())
    moves = sum(parameter.numel() for parameter in learning(attachment))
    assert sum(tensor.nbytes for tensor in files[0].values()) == Started.stored * moves
    assert sum(tensor.nbytes for tensor in attachment.state().values()) == Started.held * moves


def test_dropout_drops_inputs_of_the_change_as_long_as_it_learns() -> None:
    attachment = started(knobs=Ranked(rank=3, alpha=6.0, dropout=0.5))
    learn(attachment.model, learning(attachment))
    with torch.no_grad():
        assert not torch.equal(attachment.model.train()(IDS).logits, attachment.model(IDS).logits)
    assert torch.equal(said(attachment.model), said(attachment.model))
