"""What adapters have in common whose modules stay beside the model for good, because no change of its weights equals them.

Here is what a person is told before the start, and the word by which a saved folder is known; the modules are `materials/inserted.py`'s.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

CONFIG = "adapter_config.json"
BESIDE = "modules_beside"  # there, what stands beside which module
READ_BEFORE = ("PROMPT_TUNING", "PREFIX_TUNING")  # the kinds of peft's folders that stand beside a model as ours do


class Unmergeable(BaseModel):
    """Mixed into the adapters that nothing merges, with who opens their folder."""

    opened_by: ClassVar[str] = "only this workbench opens it"

    def costs(self) -> str:
        return f"What is learnt stays beside the model: it cannot be merged into the weights, and {self.opened_by}."


def stays_beside(adapter: Path) -> bool:
    """Whether an adapter folder holds such modules; one whose adapter_config.json cannot be read raises OSError or ValueError."""
    told = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(told, dict):
        raise ValueError(f"{CONFIG} is no mapping of names to values")
    return beside(told)


def beside(told: Mapping[str, Any]) -> bool:
    """Whether the adapter of an adapter_config.json is made of such modules: of ours, or peft's prompts and prefixes."""
    return BESIDE in told or told.get("peft_type") in READ_BEFORE


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
