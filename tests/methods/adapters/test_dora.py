"""DoRA (arXiv:2402.09353): each row has the length that was learnt for it, whatever its direction, and starts as the base's."""

from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import read_lora
from workbench.materials.low_rank import LowRankAttachment
from workbench.methods.adapters.dora import DoRA
from workbench.methods.adapters.lora import LoRA

QUERY = "model.layers.0.self_attn.q_proj"
IDS = torch.arange(5, 45).reshape(4, 10)


def attached(**knobs: object) -> tuple[LowRankAttachment, LoraLayer]:
    attachment = DoRA(**{"rank": 4, "alpha": 6.0, **knobs}).attach(make_model(), seed=0)
    return attachment, attachment.model.get_submodule(QUERY)


def lengths(layer: LoraLayer) -> torch.nn.Parameter:
    return layer.lora_magnitude_vector["default"].weight


def effective(layer: LoraLayer) -> Tensor:
    """(m, n), read from what the layer says to each unit vector."""
    with torch.no_grad():
        return layer(torch.eye(32)).T


def test_each_row_has_the_length_that_was_learnt_for_it() -> None:
    _, layer = attached()
    assert torch.allclose(lengths(layer), layer.base_layer.weight.norm(dim=1))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_(generator=generator)
        lengths(layer).normal_(generator=generator)
    whole = effective(layer)
    assert torch.allclose(whole.norm(dim=1), lengths(layer).abs(), atol=1e-5)
    directions = layer.base_layer.weight + 6 / 4 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert torch.allclose(torch.cosine_similarity(whole, directions).abs(), torch.ones(32), atol=1e-5)


def test_the_norm_is_a_constant_in_the_gradient() -> None:
    """At the start ∂L/∂B is then LoRA's own, scaled by m/‖W‖ = 1; through the norm it would lose its part along W."""
    gradients = []
    for adapter in (DoRA(rank=4, alpha=6.0), LoRA(rank=4, alpha=6.0, dropout=0)):
        attachment = adapter.attach(make_model(), seed=0)
        attachment.model(IDS, labels=IDS).loss.backward()
        gradients.append(attachment.model.get_submodule(QUERY).lora_B["default"].weight.grad)
    assert gradients[1].abs().max() > 0 and torch.allclose(gradients[0], gradients[1], atol=1e-7)


def test_it_counts_a_length_for_each_output() -> None:
    model = make_model()
    outputs = 3 * (32 + 16 + 16 + 32 + 64 + 64 + 32)  # q, k, v, o, gate, up, down
    assert DoRA(rank=4).cost(model).trained == LoRA(rank=4).cost(model).trained + outputs


@pytest.mark.parametrize("training", [True, False])
def test_in_half_precision_too_nothing_changes_before_the_first_step(training: bool) -> None:
    model = make_model().bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = model(IDS).logits
        attachment = DoRA().attach(model, seed=0)
        assert torch.equal(attachment.model.train(training)(IDS).logits, before)


def test_a_row_of_zeros_is_a_sentence_and_not_a_nan() -> None:
    model = make_model()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3] = 0
    with pytest.raises(WorkbenchError, match=r"model\.layers\.1\.mlp\.down_proj has rows .* Choose LoRA"):
        DoRA().attach(model, seed=0)


def test_it_cannot_be_merged_as_if_it_were_lora(tmp_path: Path) -> None:
    attached()[0].save(tmp_path)
    with pytest.raises(WorkbenchError, match=r"uses DoRA .*Save as a model"):
        read_lora(tmp_path, "run 1")
