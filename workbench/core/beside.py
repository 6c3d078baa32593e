"""What adapters have in common whose modules stay beside the model for good, because no change of its weights equals them.

Here is what a person is told before the start, and the word by which a saved folder is known; the modules are `materials/inserted.py`'s.
"""

import json
from pathlib import Path

from pydantic import BaseModel

CONFIG = "adapter_config.json"
BESIDE = "modules_beside"  # there, what stands beside which module


class Unmergeable(BaseModel):
    """Mixed into the adapters whose folder this workbench opens and nothing merges."""

    def costs(self) -> str:
        return "What is learnt stays beside the model: it cannot be merged into the weights, and only this workbench opens it."


def stays_beside(adapter: Path) -> bool:
    """Whether an adapter folder holds such modules; one whose adapter_config.json cannot be read raises OSError or ValueError."""
    told = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(told, dict):
        raise ValueError(f"{CONFIG} is no mapping of names to values")
    return BESIDE in told


def foldable(adapter: Path) -> bool:
    """Whether what the adapter learnt can become part of the weights. Of one that cannot be read, opening it tells."""
    try:
        return not stays_beside(adapter)
    except (OSError, ValueError):
        return True


def unmergeable(label: str) -> str:
    """The sentence for who wants to make such an adapter a part of the weights."""
    return (
        f"{label} is made of modules that stand beside the model and are no change of its weights, so it cannot be merged or made a model "
        "of. Leave it out, use it on its base as it is, or train a LoRA."
    )
