"""rsLoRA (arXiv:2312.03732): the scale falls with the root of the rank, so a direction's gradient is of one size at every rank."""

from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from pico import make_model

from workbench.materials.lora import read_lora
from workbench.methods.adapters.lora import LoRA
from workbench.methods.adapters.rslora import RsLoRA

QUERY = "model.layers.0.self_attn.q_proj"


def layer(adapter: LoRA | RsLoRA) -> LoraLayer:
    return adapter.attach(make_model(), seed=0).model.get_submodule(QUERY)


def test_four_times_the_rank_halves_the_scale() -> None:
    low, high = (layer(RsLoRA(rank=rank, alpha=8)).scaling["default"] for rank in (4, 16))
    assert low == 4 and high / low == 1 / 2, "α/√r, where LoRA's α/r would be a quarter"


def test_at_its_defaults_the_scale_is_loras() -> None:
    assert layer(RsLoRA()).scaling["default"] == layer(LoRA()).scaling["default"]


def test_the_gradient_does_not_shrink_with_the_rank() -> None:
    """The paper's claim, at the start: with B = 0, ∂L/∂B = s (∂L/∂y)(Ax)ᵀ, and what a step of it adds to y is s² r times a constant."""

    def moved(adapter: LoRA | RsLoRA) -> float:
        one = layer(adapter)
        x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
        before = one(x).detach()
        one(x).sum().backward()
        with torch.no_grad():
            one.lora_B["default"].weight -= 1e-3 * one.lora_B["default"].weight.grad
            return float((one(x) - before).norm())

    stable = [moved(RsLoRA(rank=rank, alpha=8, dropout=0)) for rank in (8, 128)]
    shrinking = [moved(LoRA(rank=rank, alpha=8, dropout=0)) for rank in (8, 128)]
    assert stable[1] == pytest.approx(stable[0], rel=0.5) and shrinking[1] < shrinking[0] / 8


def test_what_is_saved_is_read_with_its_own_scale(tmp_path: Path) -> None:
    attachment = RsLoRA(rank=4, alpha=6).attach(make_model(), seed=0)
    one = attachment.model.get_submodule(QUERY)
    torch.nn.init.normal_(one.lora_B["default"].weight)
    attachment.save(tmp_path)
    factors = read_lora(tmp_path, "ours").factors[f"{QUERY}.weight"]
    assert factors.scale == 3.0
    assert torch.allclose((factors.left @ factors.right).float(), one.get_delta_weight("default"), atol=1e-6)
