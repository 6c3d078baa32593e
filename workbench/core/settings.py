"""Settings of a spec by dotted name, as they stand on the command line and in a run's changes: `update.lr=1e-4`.

Works on specs as plain values; which names there are, the spec says when it is parsed (`core/spec.py`).
"""

from typing import Any

import yaml

from workbench.core.errors import SpecError


def override(given: Any, overrides: list[str]) -> Any:
    """`given` with each `dotted.name=value` put in; the value is read as YAML."""
    for text in overrides:
        put(given, *setting(text))
    return given


def setting(text: str) -> tuple[str, Any]:
    """`update.lr=1e-4` → the name and its value, which is read as YAML."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SpecError([f"{text!r} is not of the form name=value, for example adapter.rank=8"])
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SpecError([f"{name}: {value!r} is no value ({' '.join(str(error).split())})"]) from error


def put(given: dict[str, Any], name: str, value: Any) -> None:
    """Write `value` at a dotted place of a spec as plain values."""
    *path, last = name.split(".")
    for part in path:
        if isinstance(given.get(part), str):  # the short form of a method: its name alone
            given[part] = {"method": given[part]}
        given = given.setdefault(part, {})
        if not isinstance(given, dict):
            raise SpecError([f"{name}: {part!r} holds a single value, so nothing can be set inside it"])
    given[last] = value
