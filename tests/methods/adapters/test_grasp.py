"""GRASP (arXiv:2605.27676, reconstructed): what an earlier LoRA read most is never read anew, and the base keeps what it knows."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.lora import Factors, Lora
from workbench.methods.adapters.grasp import GRASP, forbidden_of, principal
from workbench.methods.adapters.lora import LoRA
from workbench.methods.updates.adamw import AdamW

QUERY, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"
GRASPED = {"dropout": 0.0, "rank": 4, "earlier_run": "run:0001"}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def earlier(seed: int = 0) -> Lora:
    return Lora({QUERY: Factors(random(32, 3, seed=seed), random(3, 32, seed=seed + 1)), DOWN: Factors(random(32, 3), random(3, 64))}, {})


def trained(adapter: LoRA | GRASP, told: Lora | None, steps: int = 100) -> tuple[object, Tensor]:
    """The attachment after some steps of AdamW on a loss that pulls everywhere, and what the model says before the first."""
    attachment = adapter.attach(make_model(), seed=0)
    if told:
        attachment.heed(told)
    ids = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        first = attachment.model(ids).logits
    stepper = AdamW(lr=1e-2).begin(attachment.groups())
    for step in range(1, steps + 1):
        attachment.model(ids).logits.logsumexp(-1).sum().backward()
        stepper.step(1.0, lambda: None)
        attachment.after_step(step)
    return attachment, first


def delta(attachment: object) -> Tensor:
    return attachment.model.model.layers[0].self_attn.q_proj.get_delta_weight("default").double()


def test_the_principal_directions_are_those_of_the_whole_product() -> None:
    pair = Factors(random(40, 5, seed=3), random(5, 30, seed=4))
    whole = torch.linalg.svd(pair.left @ pair.right, full_matrices=False)
    ours = principal(pair)
    assert ours.shape == (30, 5) and torch.allclose(ours.T @ ours, torch.eye(5, dtype=torch.float64), atol=1e-12)
    for place in range(5):
        assert abs(float(ours[:, place] @ whole.Vh[place])) == pytest.approx(1)
    assert torch.allclose(principal(pair, weighted=True).norm(dim=0), whole.S[:5])


def test_a_direction_of_no_strength_is_none() -> None:
    assert principal(Factors(torch.zeros(6, 2).double(), random(2, 5))).shape == (5, 0)
    once = random(1, 5)
    assert principal(Factors(random(6, 2), torch.cat([once, 2 * once]))).shape == (5, 1)


def test_after_a_hundred_steps_the_update_does_not_read_what_is_forbidden() -> None:
    told = earlier()
    direction = principal(told.factors[QUERY])[:, :1]
    free, _ = trained(LoRA(rank=4, dropout=0.0), None)
    bound, _ = trained(GRASP(**GRASPED), told)
    assert (delta(free) @ direction).abs().max() > 1e-3, "LoRA does read it"
    assert (delta(bound) @ direction).abs().max() < 1e-6
    assert delta(bound).norm() > 0.1 * delta(free).norm(), "and it learns something else"


def test_what_writes_to_the_residual_stream_is_free() -> None:
    assert set(forbidden_of(earlier(), GRASP(**GRASPED))) == {QUERY}


def test_nothing_the_model_says_changes_before_the_first_step_and_the_base_stays() -> None:
    attachment, first = trained(GRASP(**GRASPED), earlier())
    ids = torch.arange(20).reshape(2, 10)
    with torch.no_grad():
        assert torch.equal(first, make_model()(ids).logits)
        with attachment.base():
            assert torch.equal(attachment.model(ids).logits, first)


def test_without_directions_it_is_lora() -> None:
    nothing = GRASP(rank=4, dropout=0.0, directions=0)
    assert nothing.earlier() == "" and nothing.costs() == ""
    one, other = trained(LoRA(rank=4, dropout=0.0), None, 5)[0], trained(nothing, earlier(), 5)[0]
    assert torch.equal(delta(one), delta(other))


def test_skipped_directions_stay_open_and_the_next_are_forbidden() -> None:
    told = earlier()
    found = principal(told.factors[QUERY])
    assert torch.equal(forbidden_of(told, GRASP(**GRASPED, skip=1))[QUERY], found[:, 1:2])
    assert torch.equal(forbidden_of(told, GRASP(**GRASPED, directions=2))[QUERY], found[:, :2])
    assert forbidden_of(told, GRASP(**GRASPED, skip=9))[QUERY].shape == (32, 0)


def test_shared_directions_are_those_of_all_readers_together() -> None:
    """Two matrices that read the same direction strongly, and each another one weakly."""
    common, one, other = torch.eye(32, dtype=torch.float64)[:3]
    second = QUERY.replace("q_proj", "k_proj")
    told = Lora(
        {
            QUERY: Factors(2 * torch.eye(32, 2, dtype=torch.float64), torch.stack([common, 0.9 * one])),
            second: Factors(2 * torch.eye(16, 2, dtype=torch.float64), torch.stack([common, 0.9 * other])),
        },
        {},
    )
    forbidden = forbidden_of(told, GRASP(**GRASPED, shared=True))
    assert set(forbidden) == {QUERY, second}
    assert all(abs(float(found[:, 0] @ common)) == pytest.approx(1) for found in forbidden.values())


def test_it_says_what_it_lacks() -> None:
    with pytest.raises(WorkbenchError, match="name that run"):
        GRASP().earlier()
    attachment = GRASP(**GRASPED, targets="mlp").attach(make_model(), seed=0)
    with pytest.raises(WorkbenchError, match="the same targets"):
        attachment.heed(earlier())
