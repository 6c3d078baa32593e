"""The grafts that inspections have kept: a few learnt numbers of a tuned model each, a sparse adapter that a merge takes as a model.

What it is not: how they are learnt (`methods/inspections/`), read (`materials/singles.py`) or merged.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from workbench.core.workspace import Workspace
from workbench.materials.singles import holds_singles

KEPT = "graft-"  # and the place of the model among those that were inspected, from 1


def grafts(workspace: Workspace, labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """(reference, what it is called) of all that were kept, the newest run's first; `labels`: what models are called, by reference."""
    return [found for folder in sorted(workspace.run_folders(), reverse=True) for found in _of(folder, labels)]


def kept_in(folder: Path) -> list[Path]:
    """The grafts in the folder of a run, in the order of its models."""
    named = [graft for graft in folder.glob(f"{KEPT}*") if graft.name.removeprefix(KEPT).isdigit() and holds_singles(graft)]
    return sorted(named, key=lambda graft: int(graft.name.removeprefix(KEPT)))


def behind(reference: str) -> str:
    """The model that a kept graft is of; any other model is itself."""
    folder = Path(reference)
    return _inspected(folder.parent).get(folder.name, reference) if folder.name.startswith(KEPT) else reference


def _of(folder: Path, labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for graft in kept_in(folder):
        of = behind(str(graft))
        yield str(graft), f"run {folder.name} · graft of {labels.get(of, of)}"


def _inspected(folder: Path) -> dict[str, str]:
    """The models that a run inspected, by the names of their grafts; nothing where that is not known any more."""
    try:
        told = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    models = told.get("models") if isinstance(told, dict) else None
    return {f"{KEPT}{place}": str(model) for place, model in enumerate(models or [], 1)}
