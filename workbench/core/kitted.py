"""How a merge stands in mergekit's YAML: its name there, its parameters, what is taken where nothing is said. Read by `core/mergekit.py`.

What it is not: a reader or a writer of that YAML.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class Kitted:
    """What every merge says of itself; one that mergekit does not have says nothing."""

    kit: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # its names in mergekit, each with the knobs that it stands for
    kit_defaults: ClassVar[Mapping[str, Any]] = {}  # what mergekit takes where it is told nothing, if that is not ours
    kit_base: ClassVar[bool | str] = True  # whether mergekit is told the base; or the knob that says so
    kit_knobs: ClassVar[Mapping[str, Any]] = {}  # mergekit's parameter → our knob, or (knob, its values → ours)
