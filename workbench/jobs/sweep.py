"""The same run several times, each with another value of one setting: for a learning rate, a rank, a position, a seed.

What it is not: a search that chooses the next value by the last result, or the picture of what came out (the Runs tab overlays runs).
"""

from collections.abc import Sequence
from typing import Any

import yaml

from workbench.core.errors import SpecError
from workbench.core.method import Method, knobs_of
from workbench.core.settings import put
from workbench.core.spec import TrainSpec

MOST = 64  # runs that are queued at once


def settings(spec: TrainSpec) -> dict[str, Any]:
    """What can be varied, as `adapter.rank`, with its present value: the knobs of the spec's methods, and its own."""
    found = dict[str, Any]()
    for part in ("adapter", "update", "loss"):
        method: Method = dict(spec)[part]
        found |= {f"{part}.{knob.name}": dict(method)[knob.name] for knob in knobs_of(type(method))}
    found |= {f"data.{knob.name}": dict(spec.data)[knob.name] for knob in knobs_of(type(spec.data)) if knob.kind != "text"}
    return found | {knob.name: dict(spec)[knob.name] for knob in knobs_of(TrainSpec) if knob.kind != "text"}


def several(text: str) -> list[Any]:
    """The values in a list with commas between them, each read as YAML: `1e-4, 3e-4` or `attention, mlp`."""
    try:
        return [yaml.safe_load(part) for part in text.split(",") if part.strip()]
    except yaml.YAMLError as error:
        raise SpecError([f"{text!r} is no list of values ({' '.join(str(error).split())}); write them with commas, as 4, 8, 16"]) from error


def swept(spec: TrainSpec, name: str, values: Sequence[Any]) -> list[TrainSpec]:
    """A spec for each value, named after it; the mistakes of all of them at once.

    Raises:
        SpecError: the setting takes no such value, there is none, or there are more than `MOST`.
    """
    if not values or len(values) > MOST:
        raise SpecError([f"{len(values)} values were given for {name}; give 1 to {MOST}, with commas between them"])
    made, mistakes = list[TrainSpec](), list[str]()
    for value in values:
        given = spec.model_dump(mode="json")
        put(given, name, value)
        label = f"{name.rpartition('.')[2].replace('_', ' ')} {value}"
        given["name"] = f"{spec.name[: max(0, 77 - len(label))]} · {label}"[:80] if spec.name else label[:80]
        try:
            made.append(TrainSpec.parse(given))
        except SpecError as error:
            mistakes += [mistake for mistake in error.mistakes if mistake not in mistakes]
    if mistakes:
        raise SpecError(mistakes)
    return made
