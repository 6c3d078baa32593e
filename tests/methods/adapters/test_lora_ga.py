"""LoRA-GA (arXiv:2407.05000): to first order its first step is the best that rank 2r can have of full tuning's."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.job import drain
from workbench.materials import covariances
from workbench.materials.evidence import Evidence, gradients, surprise
from workbench.materials.started import StartedAttachment
from workbench.materials.templates import Encoded
from workbench.methods.adapters import lora_ga
from workbench.methods.adapters.lora_ga import LoRAGA

UP = "model.layers.1.mlp.up_proj"
ROWS = [Encoded(list(range(start, start + 25)), [True] * 25, 0) for start in range(2, 66, 8)]
EVIDENCE = Evidence({"": ROWS}, 0, torch.device("cpu"))
(BATCH,) = EVIDENCE.batches()
SMALL = {"rank": 4, "alpha": 6.0, "dropout": 0.0}


def told(**knobs: object) -> StartedAttachment:
    adapter, model = LoRAGA(**{**SMALL, **knobs}), make_model()
    return adapter.attach(model, 0, drain(adapter.study(model, EVIDENCE)))


def gradient() -> Tensor:
    """(m, n) of the whole matrix, as full tuning has it."""
    found: dict[str, Tensor] = {}
    drain(gradients(make_model(), [f"{UP}.weight"], [BATCH], lambda name, own: found.update({name: own.clone()})))
    return found[f"{UP}.weight"]


def test_the_first_step_is_the_strongest_part_of_full_tunings() -> None:
    attachment = told()
    surprise(attachment.model, BATCH).backward()
    layer, start = attachment.model.get_submodule(UP), attachment.starts[UP]
    step = 1.5 * (layer.lora_B["default"].weight.grad @ start.a + start.b @ layer.lora_A["default"].weight.grad)
    u, sizes, vh = torch.linalg.svd(gradient())
    best = (u[:, :8] * sizes[:8]) @ vh[:8]
    assert torch.allclose(step, 1.5**2 * 64**0.5 / 16 * best, rtol=0, atol=0.01 * float(step.abs().max()))


def test_the_start_is_as_large_as_gamma_says() -> None:
    for gamma in (16.0, 4.0):
        start = told(gamma=gamma).starts[UP]
        assert torch.allclose(start.a @ start.a.T, torch.eye(4) * 64**0.5 / gamma, atol=1e-4)
        assert torch.allclose(start.b.T @ start.b, torch.eye(4) * 64**0.5 / gamma, atol=1e-4)


def test_a_matrix_with_fewer_than_twice_the_rank_has_a_start_too() -> None:
    start = told(rank=12).starts["model.layers.0.self_attn.k_proj"]  # 16 directions
    assert start.a.shape == (12, 32) and start.b.shape == (16, 12)
    assert torch.linalg.matrix_rank(start.b) == 12


def test_in_portions_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = told().starts
    monkeypatch.setattr(lora_ga, "ROOM", 4 * 64 * 32)
    assert covariances.portions({"a": 4 * 64 * 32, "b": 1}, lora_ga.ROOM) == [["a"], ["b"]]
    apart = told().starts
    assert all(torch.allclose(whole[name].b @ whole[name].a, apart[name].b @ apart[name].a, atol=1e-5) for name in whole)


def test_looking_moves_nothing_and_draws_nothing() -> None:
    model, adapter = make_model(), LoRAGA(**SMALL)
    before, random = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    drain(adapter.study(model, EVIDENCE))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
