"""Where to start: settings that go together, with why, from `assets/presets.yaml`.

What it is not: the methods' own defaults, which are theirs. A preset names methods, which this program's code never does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from workbench.core.method import find
from workbench.core.workspace import ASSETS

SHELVES = {"adapter": "adapters", "update": "updates", "loss": "losses"}


@dataclass(frozen=True)
class Preset:
    """`spec`: the parts of a training spec that it sets; a method stands there with the knobs that are not as usual."""

    name: str
    why: str
    spec: dict[str, Any]


@lru_cache(maxsize=1)
def presets() -> tuple[Preset, ...]:
    return tuple(Preset(**given) for given in yaml.safe_load((ASSETS / "presets.yaml").read_text(encoding="utf-8")))


def applied(preset: Preset, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec as plain values with what the preset sets; everything else as it was."""
    return {**spec, **{part: _whole(part, value) for part, value in preset.spec.items()}}


def _whole(part: str, value: Any) -> Any:
    """A method with all its knobs; anything else as it stands."""
    return {**find(SHELVES[part], value["method"])().chosen(), **value} if part in SHELVES else value
