"""What the tests of merges share: a spec in few words, its merge carried out, and model folders read and spoilt."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.core.errors import SpecError
from workbench.core.spec import MergeSpec, TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.merge import merge


def spec_of(base: str, *models: str, method: dict | str = "linear", name: str = "out", **more: object) -> MergeSpec:
    given = [{"model": model} for model in models]
    return MergeSpec.parse({"name": name, "base": base, "models": given, "merge": method, **more})  # type: ignore[return-value]


def run(workspace: Workspace, spec: MergeSpec) -> dict[str, Tensor]:
    """The merged tensors."""
    for _ in merge(spec, workspace.run("0001"), workspace):
        pass
    return read(workspace.model(spec.name))


def read(folder: Path | str) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(Path(folder).glob("*.safetensors")) for name, tensor in load_file(file).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same names, numbers and formats."""
    return one.keys() == other.keys() and all(one[name].dtype == other[name].dtype and one[name].equal(other[name]) for name in one)


def refused(workspace: Workspace, spec: MergeSpec) -> list[str]:
    """The mistakes; checks that nothing was written."""
    with pytest.raises(SpecError) as caught:
        list(merge(spec, workspace.run("0001"), workspace))
    assert list(workspace.model().iterdir()) == []
    return caught.value.mistakes


def rewrite(folder: str, change: Callable[[dict[str, Tensor]], object]) -> str:
    """Change the tensors of a model folder in place."""
    path = Path(folder) / "model.safetensors"
    held = load_file(path)
    change(held)
    save_file(held, path, metadata={"format": "pt"})
    return folder


def reconfigure(folder: str, **changes: object) -> str:
    """Change the config of a model folder in place."""
    path = Path(folder) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def keep_run(workspace: Workspace, number: int, spec: TrainSpec, model: PeftModel) -> str:
    """A run that made this adapter and held back two in five rows; returns its reference."""
    folder = workspace.run(f"{number:04}")
    model.save_pretrained(folder / "adapter")
    data = {**spec.data.model_dump(), "validation_share": 0.4}
    (folder / "spec.yaml").write_text(TrainSpec(**{**spec.model_dump(), "data": data}).to_yaml())
    return f"run:{number:04}"
