"""LIFT: the count of entries, the largest of a low-rank approximation, chosen anew in time, and only they move."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.method import find
from workbench.materials.region import RegionAttachment
from workbench.methods.adapters.lift import LIFT

UP = "model.layers.0.mlp.up_proj.weight"


def chosen(attachment: RegionAttachment, name: str = UP) -> Tensor:
    return attachment.state()[f"{name}/index"]


def test_with_every_direction_it_is_the_largest_entries() -> None:
    model = make_model()
    weight = model.get_parameter(UP).detach().clone()
    found = chosen(LIFT(budget=2, directions=512).attach(model, seed=0))
    assert len(found) == 2 * sum(weight.shape)
    assert torch.equal(found, weight.abs().flatten().topk(len(found)).indices.sort().values)


@pytest.mark.parametrize("svd", ["randomized", "exact"])
def test_the_entries_are_those_of_the_strongest_direction(svd: str) -> None:
    model = make_model()
    weight = model.get_parameter(UP)
    with torch.no_grad():  # a strong direction in few places, under noise whose single entries are larger
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
        weight[10:20, 4:9] += 3.0
    planted = {row * weight.shape[1] + column for row in range(10, 20) for column in range(4, 9)}
    found = set(chosen(LIFT(budget=1, directions=1, svd=svd).attach(model, seed=0)).tolist())
    plain = set(weight.detach().abs().flatten().topk(len(found)).indices.tolist())
    assert planted <= found and not planted <= plain


def test_a_matrix_with_fewer_entries_moves_whole() -> None:
    attachment = LIFT(budget=512).attach(make_model(), seed=0)
    assert all(values.numel() == attachment.model.get_parameter(name).numel() for name, values in attachment.trained())


def test_the_choice_is_made_anew_in_time_and_from_what_the_weights_are_then() -> None:
    attachment = LIFT(budget=1, directions=1, refresh=3).attach(make_model(), seed=0)
    first = chosen(attachment)
    with torch.no_grad():
        for _, values in attachment.trained():
            values.mul_(-30)
    assert [bool(attachment.redraw(step)) for step in (1, 2, 3)] == [False] * 3
    assert attachment.redraw(4) and not torch.equal(chosen(attachment), first)
    assert len(chosen(attachment)) == len(first)
    assert not LIFT(refresh=0).attach(make_model(), seed=0).redraw(1000)


def test_the_randomized_choice_is_that_of_its_seed_and_disturbs_no_other_draw() -> None:
    models = [make_model(), make_model()]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same = (chosen(LIFT(budget=2, directions=2).attach(model, seed=5)) for model in models)
    assert torch.equal(one, same) and torch.equal(torch.get_rng_state(), before)


def test_only_an_exact_decomposition_is_told_to_cost_extra() -> None:
    assert LIFT().costs() == "" and "decomposition" in LIFT(svd="exact").costs()


def test_it_is_found_by_name() -> None:
    assert find("adapters", "lift") is LIFT
