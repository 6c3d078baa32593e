"""Single numbers that an adapter changes, read back from its folder and added to blocks of rows of its base.

What it is: the reading of what `sparse.py` writes beside peft's form, so that a merge takes a sparse adapter or a kept graft as it is,
block by block. What it is not: the writing; and it needs neither peft nor transformers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.models import ADAPTER

DELTA = "delta.safetensors"


@dataclass(frozen=True)
class Single:
    """(K,) ascending places in the flattened tensor, and the (K,) float32 change there."""

    places: Tensor
    change: Tensor

    def added(self, start: int, rows: Tensor) -> Tensor:
        """Rows of the tuned tensor from those of the base's, which begin at row `start`; float32 in and out."""
        each = rows[0].numel() if rows.dim() > 1 and len(rows) else 1
        first, last = torch.searchsorted(self.places, torch.tensor([start * each, start * each + rows.numel()])).tolist()
        if first == last:
            return rows
        places, change = (self.places[first:last] - start * each).to(rows.device), self.change[first:last].to(rows.device)
        found = rows.clone()
        found.view(-1)[places] += change
        return found


def holds_singles(folder: Path) -> bool:
    """Whether this is the folder of a sparse adapter whose single numbers can be read; peft alone writes them in another form."""
    try:
        config = json.loads((folder / ADAPTER[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("peft_type") == "SHIRA" and (folder / DELTA).exists()


def read_singles(folder: Path, label: str) -> Mapping[str, Single]:
    """By the name of the base's tensor.

    Raises:
        WorkbenchError: the file is damaged.
    """
    try:
        held = load_file(folder / DELTA)
        return {
            name: Single(held[f"{name}.idx"].long(), held[f"{name}.val"].float())
            for name in (key.removesuffix(".idx") for key in held if key.endswith(".idx"))
        }
    except (OSError, KeyError, SafetensorError) as error:
        raise WorkbenchError(f"{label} has no readable {DELTA} in {folder}. Make the adapter again.") from error
