"""The slow weights: where they are in closed form, what they are used for, and that the training itself does not notice them."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from workbench.core.events import Measured
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.averaging import Average
from workbench.jobs.estimate import disk, estimate
from workbench.jobs.train import train


def walk(momentum: float, points: torch.Tensor, dtype: torch.dtype = torch.float32) -> tuple[Average, nn.Parameter]:
    """The average after a parameter went from the first point to the last."""
    average, moving = Average(), nn.Parameter(points[0].clone().to(dtype))
    for point in points[1:]:
        average.begin([("w", moving)], momentum)
        moving.data.copy_(point)
        average.follow([("w", moving)], momentum)
    return average, moving


@pytest.mark.parametrize("momentum", [0.25, 0.9, 0.999])
def test_it_is_the_closed_form(momentum: float) -> None:
    points = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    average, _ = walk(momentum, points)
    parts = [momentum ** (6 - step) * (1 - momentum) * points[step] for step in range(1, 7)]
    assert torch.allclose(average.slow["w"], momentum**6 * points[0] + sum(parts), atol=1e-6)


def test_with_no_momentum_there_is_none_and_in_half_precision_it_does_not_stall() -> None:
    points = torch.linspace(1, 2, 200)[:, None]
    assert walk(0.0, points)[0].slow == {}
    average, moving = walk(0.999, points, torch.bfloat16)
    assert moving.dtype == torch.bfloat16 and 1.05 < float(average.slow["w"]) < 1.15


def test_it_stands_in_place_and_what_is_trained_comes_back_to_the_bit() -> None:
    average, moving = walk(0.5, torch.randn(4, 3))
    fast = moving.detach().clone()
    with pytest.raises(RuntimeError, match="on the way"), average.in_place([("w", moving)]):
        assert torch.equal(moving, average.slow["w"]) and not torch.equal(moving, fast)
        raise RuntimeError("on the way")
    assert torch.equal(moving, fast)


def losses(spec: TrainSpec, workspace: Workspace, folder: Path) -> dict[str, list[float]]:
    found = [event.values for event in train(spec, folder, workspace) if isinstance(event, Measured)]
    return {name: [values[name] for values in found if name in values] for name in ("loss", "validation_loss")}


def averaged(spec: TrainSpec, momentum: float, **changes: object) -> TrainSpec:
    return TrainSpec.parse({**spec.model_dump(mode="json"), "update": {"method": "adamw", "lr": 1e-2, "average": momentum}, **changes})


def test_training_goes_on_as_it_would_and_the_average_is_evaluated_and_kept(spec: TrainSpec, workspace: Workspace) -> None:
    plain = losses(spec, workspace, workspace.run("0001"))
    slow = losses(averaged(spec, 0.9), workspace, workspace.run("0002"))
    assert slow["loss"] == plain["loss"], "what is trained does not notice"
    assert slow["validation_loss"] != plain["validation_loss"]
    fast = load_file(workspace.run("0001") / "adapter" / "adapter_model.safetensors")
    kept = load_file(workspace.run("0002") / "adapter" / "adapter_model.safetensors")
    checkpoint = load_file(workspace.run("0002") / "checkpoint" / "state.safetensors")
    for name, tensor in kept.items():
        place = next(key for key in checkpoint if key.startswith("average/") and key.replace(".default", "").endswith(name[17:]))
        assert torch.equal(tensor, checkpoint[place])
        if "lora_B" in name:  # which begins at zero, so the average is nearer to it
            assert 0 < tensor.norm() < 0.8 * fast[name].norm()


def test_a_resumed_run_has_the_same_average(spec: TrainSpec, workspace: Workspace) -> None:
    wanted = averaged(spec, 0.7, checkpoint_every=2)
    whole = losses(wanted, workspace, workspace.run("0001"))
    halves: dict[str, list[float]] = {"loss": [], "validation_loss": []}
    run = train(wanted, workspace.run("0002"), workspace)
    for event in run:
        if isinstance(event, Measured):
            for name in halves:
                halves[name] += [event.values[name]] if name in event.values else []
            if event.step == 4 and "loss" in event.values:
                run.close()
    for name, found in losses(wanted, workspace, workspace.run("0002")).items():
        halves[name] += found
    assert halves == whole
    one, other = (load_file(workspace.run(number) / "adapter" / "adapter_model.safetensors") for number in ("0001", "0002"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_that_is_kept_is_the_average_where_it_was_best(spec: TrainSpec, workspace: Workspace) -> None:
    wanted = averaged(spec, 0.5, stop={"keep_best": True}, evaluate_every=1, update={"method": "adamw", "lr": 0.5, "average": 0.5})
    folder = workspace.run("0001")
    found = losses(wanted, workspace, folder)["validation_loss"]
    model = AutoModelForCausalLM.from_pretrained(spec.model)
    kept = PeftModel.from_pretrained(model, folder / "adapter")
    assert min(found) < found[0] and any(
        float(parameter.abs().max()) > 0 for name, parameter in kept.named_parameters() if "lora_B" in name
    )
    best = {
        key.split("/", 1)[1]: tensor
        for key, tensor in load_file(folder / "checkpoint" / "state.safetensors").items()
        if key.startswith("best/")
    }
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(saved[name], best[name]) for name in saved)


def test_what_it_costs_is_told(spec: TrainSpec, workspace: Workspace) -> None:
    moved = estimate(spec, workspace).trained
    grown = disk(averaged(spec, 0.9), workspace).checkpoint - disk(spec, workspace).checkpoint
    held = dict(estimate(averaged(spec, 0.9), workspace).memory)["optimizer"] - dict(estimate(spec, workspace).memory)["optimizer"]
    assert grown == held == 4 * moved
