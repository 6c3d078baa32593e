"""A small training run for the tests of what happens in one."""

import json
from pathlib import Path

import pytest

from workbench.core.spec import TrainSpec
from workbench.materials.world.skills import World


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "tale.jsonl"
    found = World().rows("tale", 40, seed=0, held_out=False)
    path.write_text("".join(json.dumps({"messages": row.messages()}) + "\n" for row in found))
    return path


@pytest.fixture
def spec(pico_folder: Path, rows: Path) -> TrainSpec:
    return TrainSpec(
        model=str(pico_folder), data={"path": str(rows), "max_length": 64}, adapter={"method": "lora", "rank": 4, "dropout": 0.1},
        update={"method": "adamw", "lr": 1e-2}, steps=6, batch_size=4, evaluate_every=3, sample_every=6, checkpoint_every=2,
    )  # fmt: skip
