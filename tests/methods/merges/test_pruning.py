"""Pruning as a merge: narrower by the knob, the same function where neurons are twins. The clustering: `tests/materials/test_pruned.py`."""

import torch
from pico import make_model

from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.materials.models import built
from workbench.methods.merges.pruning import Pruning

IDS = torch.arange(12).reshape(2, 6)
CONFIG = make_model().config.to_dict()


def held(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}


@torch.no_grad()
def test_all_neurons_are_the_model_and_half_are_half_as_many() -> None:
    model = make_model()
    whole, config, told = drain(Pruning(keep=1.0).model(CONFIG, [held(model)], [1.0]))
    assert torch.allclose(built(config, whole)(IDS).logits, model(IDS).logits, atol=1e-4)
    assert told == []
    half, config, _ = drain(Pruning(keep=0.5).model(CONFIG, [held(model)], [1.0]))
    assert config["intermediate_size"] == 32 and half["model.layers.0.mlp.up_proj.weight"].shape == (32, 32)


@torch.no_grad()
def test_twins_become_one_without_loss() -> None:
    model = make_model()
    for layer in model.model.layers:
        for name in ("gate_proj", "up_proj"):
            rows = layer.mlp.get_submodule(name).weight
            rows[32:] = rows[:32]
        layer.mlp.down_proj.weight[:, 32:] = layer.mlp.down_proj.weight[:, :32]
    tensors, config, _ = drain(Pruning(keep=0.5).model(CONFIG, [held(model)], [1.0]))
    assert torch.allclose(built(config, tensors)(IDS).logits, model(IDS).logits, atol=1e-4)


def test_it_tells_how_far_it_is() -> None:
    told = list(Pruning(keep=0.5).model(CONFIG, [held(make_model())], [1.0]))
    assert told == [Progress(done, 3, "blocks pruned") for done in (1, 2, 3)]


def test_it_takes_one_model_as_it_is() -> None:
    assert Pruning().mistakes([1.0]) == []
    assert "at most 1" in Pruning().mistakes([1.0, 1.0])[0] and "weight to 1" in Pruning().mistakes([0.5])[0]
