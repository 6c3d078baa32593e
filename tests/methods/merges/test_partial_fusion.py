"""Partial fusion as a merge: the weights are the shares, widths grow with the knob, and what cannot be is said.

Its identities stand in `tests/materials/test_neurons.py`.
"""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.materials.models import built
from workbench.materials.neurons import cost
from workbench.methods.merges.partial_fusion import PartialFusion

IDS = torch.arange(12).reshape(2, 6)
CONFIG = make_model().config.to_dict()


def state(seed: int) -> dict[str, Tensor]:
    model = make_model()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}


@torch.no_grad()
def says(tensors: dict[str, Tensor], config: dict) -> Tensor:
    return built(config, tensors)(IDS).logits


def test_with_all_weight_on_one_model_it_is_that_model() -> None:
    a, b = state(1), state(2)
    for weights, own in (((1.0, 0.0), a), ((0.0, 3.0), b)):
        for apart in (0.0, 0.5):
            assert torch.allclose(says(*PartialFusion(apart=apart).model(CONFIG, [a, b], weights)), says(own, CONFIG), atol=2e-4)


def test_what_is_kept_apart_is_paid_in_width() -> None:
    a, b = state(1), state(2)
    sizes = []
    for apart in (0.0, 0.25, 0.5, 1.0):
        tensors, config = PartialFusion(apart=apart).model(CONFIG, [a, b], (1.0, 1.0))
        assert config["intermediate_size"] == 64 + int(64 * apart)
        sizes.append(cost(config)[0])
        assert cost(config)[0] == sum(tensor.numel() for tensor in tensors.values())
    assert sizes == sorted(set(sizes))


def test_of_two_equal_models_any_share_is_the_model() -> None:
    a = state(1)
    assert torch.allclose(says(*PartialFusion(apart=0.4).model(CONFIG, [a, a], (1.0, 2.0))), says(a, CONFIG), atol=2e-4)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [((1.0,), "at least 2"), ((1.0, 1.0, 1.0), "at most 2"), ((-1.0, 2.0), "below zero"), ((0.0, 0.0), "both zero")],
)
def test_what_it_cannot_take_is_said(weights: tuple[float, ...], sentence: str) -> None:
    assert sentence in " ".join(PartialFusion().mistakes(weights)) and PartialFusion().mistakes((1.0, 0.5)) == []
