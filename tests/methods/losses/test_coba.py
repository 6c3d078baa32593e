"""CoBa: each task its share of the step, whatever its tokens; in a run the weights follow the validation losses, after a stop too."""

import json
from pathlib import Path

import pytest
import torch

from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint
from workbench.jobs.train import begin
from workbench.materials.token_stats import Learnt, TokenStats
from workbench.materials.world.skills import World
from workbench.methods.losses.coba import CoBa


def stats(tasks: list[int], weight: list[float]) -> TokenStats:
    task = torch.tensor(tasks)
    row = torch.arange(len(tasks))
    window = Learnt(row, task, torch.zeros(len(tasks)), torch.tensor(weight))
    return TokenStats(torch.full((len(tasks),), -1.0), torch.ones(len(tasks)), row=row, task=task, window=window)


def test_each_task_has_its_share_of_the_step_whatever_its_tokens() -> None:
    weights = CoBa().weights(stats([0, 0, 0, 1, 2, 2], [0.2, 0.5, 0.3]))
    assert [float(weights[part].sum()) / 6 for part in (slice(0, 3), slice(3, 4), slice(4, 6))] == pytest.approx([0.2, 0.5, 0.3])


def test_a_task_that_is_absent_leaves_its_share_to_the_others() -> None:
    weights = CoBa().weights(stats([0, 2, 2], [0.2, 0.5, 0.3]))
    assert [float(weights[0]) / 3, float(weights[1:].sum()) / 3] == pytest.approx([0.4, 0.6])


def test_in_a_run_the_weights_follow_and_go_on_after_a_stop(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    world = World()
    rows = [{"messages": row.messages(), "skill": skill} for skill in ("tale", "facts") for row in world.rows(skill, 16, 0, held_out=False)]
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(tmp_path / "two.jsonl"), "max_length": 64, "task": "skill", "validation_share": 0.25}
    spec = TrainSpec(model=str(pico_folder), data=data, batch_size=4, steps=12, loss={"method": "coba", "warm_up": 4, "window": 5},
                     adapter={"method": "lora", "rank": 4}, update={"method": "adamw", "lr": 1e-2})  # fmt: skip
    whole = drain(begin(spec, workspace.run("0001"), workspace))
    shares = []
    for _ in range(10):
        whole.advance()
        shares.append(whole.objective.task_weights.tolist())
    assert shares[2] == [0.5, 0.5] and shares[-1] != [0.5, 0.5] and sum(shares[-1]) == pytest.approx(1)
    half = drain(begin(spec, workspace.run("0002"), workspace))
    for _ in range(6):
        half.advance()
    half.keep()
    again = drain(begin(spec, workspace.run("0002"), workspace))
    assert again.step == 6 and again.converging.memory == half.converging.memory
    checkpoint.set_random_state(again.random)
    for _ in range(4):
        again.advance()
    assert again.objective.task_weights.tolist() == shares[-1]
