"""A run whose adapter chooses anew what may move: it says the same stopped and resumed, and slow weights go with their numbers."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from pico import make_model

from tests.jobs.story import run, same, series, stopped
from workbench.core.events import Measured
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.averaging import Average
from workbench.jobs.redrawing import Moving, redraw
from workbench.materials.attachment import Attachment
from workbench.materials.region import RegionAttachment
from workbench.materials.regions import Elements
from workbench.methods.updates.adamw import AdamW

LIFT = {"method": "lift", "budget": 2, "directions": 4, "refresh": 3, "targets": "mlp"}
LISA = {"method": "lisa", "blocks": 1, "every": 2}
KFPF = {"method": "k_fpf", "data": "skill_a", "rows": 10, "every": 2, "mending": 2}
GREEN = {"method": "greentrainer", "rows": 10, "every": 2, "rate": 1e-2}
SAM = {"update": {"method": "sam"}}
AVERAGED = {"update": {"method": "adamw", "lr": 1e-2, "average": 0.5}}


@pytest.mark.parametrize(
    ("adapter", "changes"),
    [*[(adapter, changes) for adapter in (LIFT, LISA) for changes in ({}, AVERAGED, SAM)], (KFPF, SAM), (GREEN, {})],
    ids=[*[f"{kind}-{how}" for kind in ("parts", "whole") for how in ("plain", "averaged", "sam")], "mended-sam", "looking again"],
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(spec: TrainSpec, workspace: Workspace, changes: dict, adapter: dict) -> None:
    usual = {"adapter": adapter, "steps": 8, "evaluate_every": 2, "sample_every": 100, "checkpoint_every": 100, "prompts": []}
    wanted = TrainSpec.parse({**spec.model_dump(mode="json"), **usual, **changes})
    whole = run(wanted, workspace.run("0001"), workspace)
    for step in (2, 3, 5):
        folder = workspace.run(f"100{step}")
        first = stopped(wanted, folder, workspace, step, Measured)
        second = run(wanted, folder, workspace)
        for name in ("loss", "validation_loss"):
            assert series(first, name) | series(second, name) == series(whole, name), (step, name)
        assert same(*(of / ("adapter" if adapter is LIFT else "model") for of in (folder, workspace.run("0001")))), step


def test_slow_weights_go_with_their_numbers_and_new_ones_start_where_they_stand() -> None:
    parameter = torch.nn.Parameter(torch.tensor([5.0, 6.0, 7.0]))
    average = Average({"it": torch.tensor([1.0, 2.0, 3.0])})
    average.carry("it", parameter, lambda moment: torch.stack([moment[1], torch.tensor(0.0), moment[2]]))
    assert average.slow["it"].tolist() == [2.0, 6.0, 3.0]
    average.carry("another", parameter, lambda moment: moment)
    assert set(average.slow) == {"it"}


def test_moments_and_slow_weights_go_with_the_entries_that_still_move(pico_batch: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    first, second = ({name: Elements(torch.arange(start, start + 40))} for start in (0, 20))
    both = {**first, "model.norm.weight": Elements(torch.arange(20))}  # of which the second is not chosen anew
    attachment = RegionAttachment(make_model(), both, lambda step: second if step == 3 else None)
    update, average = AdamW(), Average()
    stepper, (_, values) = update.begin(attachment.groups()), attachment.trained()[0]
    average.begin(attachment.trained(), 0.5)
    attachment.model(**pico_batch).loss.backward()
    stepper.step(1.0, lambda: None)
    average.follow(attachment.trained(), 0.5)
    held = stepper.within()[0].state[values]
    norm, slow = held["exp_avg"].flatten().clone(), average.slow[name].flatten().clone()
    assert redraw(3, attachment, update, stepper, average) == (stepper, {"mask_kept": 40 / 60})
    assert torch.equal(held["exp_avg"].flatten(), torch.cat([norm[20:], torch.zeros(20)]))
    assert torch.equal(average.slow[name].flatten(), torch.cat([slow[20:], values.detach().flatten()[20:]]))


def test_how_much_of_the_mask_stays_is_told_when_it_is_chosen_anew(spec: TrainSpec, workspace: Workspace) -> None:
    slices = {"method": "slicefine", "width": 4, "every": 2, "targets": "mlp"}
    wanted = TrainSpec.parse({**spec.model_dump(mode="json"), "adapter": slices, "steps": 5, "prompts": []})
    assert series(run(wanted, workspace.run("0001"), workspace), "mask_kept") == {3: 0, 5: 0}, "a slice moves on by its width"
    wanted = TrainSpec.parse({**wanted.model_dump(mode="json"), "adapter": {**LIFT, "refresh": 2}})
    kept = series(run(wanted, workspace.run("0002"), workspace), "mask_kept")
    assert set(kept) == {3, 5} and all(0.5 < share <= 1 for share in kept.values())
    wanted = TrainSpec.parse({**wanted.model_dump(mode="json"), "adapter": LISA})
    events = run(wanted, workspace.run("0003"), workspace)
    moving = [series(events, f"moving/{block}") for block in range(3)]
    assert all(set(own) <= {1, 3, 5} for own in moving) and sum(own[1] for own in moving) == 1


def test_loads_are_told_at_first_and_when_one_has_moved_by_more_than_a_hair() -> None:
    loads = [[0.5, 0.5], [0.505, 0.495], [0.52, 0.48], [0.52, 0.48], []]
    told, moving = list[dict[str, float]](), Moving()
    for now in loads:
        told.append(moving.told(cast(Attachment, SimpleNamespace(moving=lambda: {0: 1.0}, loads=lambda now=now: now))))
    assert told[0] == {"moving/0": 1.0, "expert_load/0": 0.5, "expert_load/1": 0.5}
    assert told[1:] == [{}, {"expert_load/0": 0.52, "expert_load/1": 0.48}, {}, {}]
