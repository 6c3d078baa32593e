"""Partial fusion as a merge: the weights are the shares, widths grow with the knob, and what cannot be is said.

Its identities stand in `tests/materials/test_neurons.py`.
"""

from typing import Any

import pytest
import torch
from fusing import heard_of
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.materials import pairing
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


def model(a: dict[str, Tensor], b: dict[str, Tensor], weights: tuple[float, float] = (1.0, 1.0), **knobs: Any) -> tuple:
    """What it makes of two models, which are asked for what they say."""
    heard = [heard_of(built(CONFIG, own)) for own in (a, b)] if knobs.get("match") == "activations" else []
    return drain(PartialFusion(**knobs).model(CONFIG, [a, b], weights, heard))


@torch.no_grad()
def says(tensors: dict[str, Tensor], config: dict, *told: object) -> Tensor:
    return built(config, tensors)(IDS).logits


def test_with_all_weight_on_one_model_it_is_that_model() -> None:
    a, b = state(1), state(2)
    for weights, own in (((1.0, 0.0), a), ((0.0, 3.0), b)):
        for apart in (0.0, 0.5):
            assert torch.allclose(says(*model(a, b, weights, apart=apart)), says(own, CONFIG), atol=2e-4)


def test_what_is_kept_apart_is_paid_in_width() -> None:
    a, b = state(1), state(2)
    sizes = []
    for apart in (0.0, 0.25, 0.5, 1.0):
        tensors, config, _ = model(a, b, apart=apart)
        assert config["intermediate_size"] == 64 + int(64 * apart)
        sizes.append(cost(config)[0])
        assert cost(config)[0] == sum(tensor.numel() for tensor in tensors.values())
    assert sizes == sorted(set(sizes))


def test_of_two_equal_models_any_share_is_the_model() -> None:
    a = state(1)
    assert torch.allclose(says(*model(a, a, (1.0, 2.0), apart=0.4)), says(a, CONFIG), atol=2e-4)


def shuffled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same model with the neurons of every block in the opposite order."""
    return {
        name: tensor.flip(1) if "down_proj" in name else tensor.flip(0) if "gate_proj" in name or "up_proj" in name else tensor
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("apart", [0.0, 0.4])
def test_by_place_the_order_of_the_neurons_is_all_and_else_nothing(apart: float) -> None:
    a = state(1)
    for match, same in (("weights", True), ("activations", True), ("place", False)):
        found = says(*model(a, shuffled(a), apart=apart, match=match))
        assert torch.allclose(found, says(a, CONFIG), atol=2e-4) == same
        assert same or (found - says(a, CONFIG)).abs().max() > 0.01


def test_where_the_nearest_stand_in_one_place_both_give_the_same_bytes() -> None:
    a, b = state(1), state(1)
    b = {name: tensor * (1 + 0.01 * torch.randn_like(tensor)) for name, tensor in b.items()}
    for apart in (0.0, 0.4):
        one, other = (model(a, b, (1.0, 2.0), apart=apart, heads=apart, match=match) for match in ("place", "weights"))
        assert all(torch.equal(one[0][name], other[0][name]) for name in one[0]) and one[1] == other[1]
        for block, same in zip(one[2], other[2], strict=True):
            assert same == pytest.approx({**block, "neurons anew": 0, "heads anew": 0}, rel=1e-12)


def test_more_neurons_than_can_be_matched_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    a = state(1)
    monkeypatch.setattr(pairing, "MOST", 63)
    with pytest.raises(WorkbenchError, match=r"A block has 64 neurons.*Set match to place"):
        model(a, a, match="weights")
    model(a, a, match="place")


def test_what_explains_a_block_is_how_far_apart_its_pairs_are() -> None:
    a, b = state(1), state(2)
    names = [f"{kind} {name}" for kind in ("neurons", "heads") for name in ("near", "mean", "far", "cut")]
    for apart in (0.0, 0.25, 1.0):
        told = model(a, b, apart=apart)[2]
        assert len(told) == 3 and all(list(block) == names for block in told)
        for block in told:
            assert 0 < block["neurons near"] < block["neurons mean"] < block["neurons far"] < 2
            assert (block["neurons cut"] > block["neurons far"]) == (apart == 0) and (block["neurons cut"] == 0) == (apart == 1)
    assert model(a, shuffled(a), match="weights")[2][0]["neurons anew"] == 1


def test_it_listens_where_it_goes_by_what_is_said() -> None:
    assert [PartialFusion(match=match).listens() for match in ("place", "weights", "activations")] == [False, False, True]
    with pytest.raises(WorkbenchError, match="nothing was heard"):
        drain(PartialFusion(match="activations").model(CONFIG, [state(1), state(2)], (1.0, 1.0)))


def test_it_tells_how_far_it_is_block_by_block() -> None:
    told = list(PartialFusion().model(CONFIG, [state(1), state(2)], (1.0, 1.0)))
    assert told == [Progress(done, 3, "blocks fused") for done in (1, 2, 3)]


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [((1.0,), "at least 2"), ((1.0, 1.0, 1.0), "at most 2"), ((-1.0, 2.0), "below zero"), ((0.0, 0.0), "both zero")],
)
def test_what_it_cannot_take_is_said(weights: tuple[float, ...], sentence: str) -> None:
    assert sentence in " ".join(PartialFusion().mistakes(weights)) and PartialFusion().mistakes((1.0, 0.5)) == []
