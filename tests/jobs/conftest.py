"""A small training run for the tests of what happens in one, and runs that made an adapter."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from pico import make_model
from shared import Saved

from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
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


@pytest.fixture
def lora_base(tmp_path: Path, saved_pico: Saved) -> Path:
    return saved_pico.copy(tmp_path / "base")


@pytest.fixture
def lora_run(workspace: Workspace, lora_base: Path) -> Callable[..., str]:
    """A function that makes a run with a random adapter on `lora_base` and returns its reference."""

    def build(number: int, **knobs: object) -> str:
        peft = get_peft_model(make_model(), LoraConfig(**{"target_modules": ["q_proj", "down_proj"], "r": 4, "lora_alpha": 6, **knobs}))
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in peft.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn_like(parameter) * 0.1)
        folder = workspace.run(f"{number:04}")
        peft.save_pretrained(folder / "adapter")
        (folder / "spec.yaml").write_text(yaml.safe_dump({"model": str(lora_base)}))
        return f"run:{number:04}"

    return build


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a model folder and returns its path: the base's weights, moved at random by `move`."""

    def build(name: str, move: float = 0.0, seed: int = 1, dtype: torch.dtype = torch.float32, **changes: object) -> str:
        model = make_model(**changes)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(move * torch.randn_like(parameter))
        model.to(dtype).save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return build
