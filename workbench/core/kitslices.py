"""mergekit's `slices`: read into what a merge spec says of a stack, and values by depth turned from one into the other.

In mergekit a list of numbers goes from the first layer of each slice to its last; in a spec it goes over the whole depth of the result.
A spec's list with as many numbers as the result has layers gives each its own, so one can be written as the other. Knows no method.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.core.varied import at, numbers
from workbench.core.varied import mistakes as miswritten

Sources = list[tuple[Any, dict[str, Any]]]
"""(reference, its parameters) of every model."""


@dataclass(frozen=True)
class KitSlice:
    """One slice: its layers, None where it is all of them; its models; parameters that are for it alone."""

    layers: tuple[int, int] | None
    sources: Sources
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.layers[1] - self.layers[0] if self.layers else 0


def read_slices(given: Mapping[str, Any], mistakes: list[str]) -> list[KitSlice]:
    """The slices of a file; one of all layers where it has `models`. What is wrong is added to `mistakes`."""
    slices = given.get("slices")
    if given.get("models") is not None or not slices:
        return [KitSlice(None, read_sources(given.get("models"), "models", {"model", "parameters"}, mistakes))]
    if not isinstance(slices, list):
        mistakes.append(f"slices: write a list of slices, each with its 'sources', this is {slices!r}")
        return []
    return [_slice(f"slices.{number}", entry, len(slices) == 1, mistakes) for number, entry in enumerate(slices)]


def read_sources(entries: Any, what: str, known: set[str], mistakes: list[str]) -> Sources:
    """The models of a list of entries."""
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) and "model" in entry for entry in entries):
        mistakes.append(f"{what}: write a list of entries with 'model', and 'parameters' where they have any")
        return []
    for entry in entries:
        if "+" in str(entry["model"]):
            mistakes.append(f"{entry['model']}: name a run, or merge the adapter into its base first")
        mistakes += [f"{what}: {name} of {entry['model']} is not read here; remove it" for name in sorted(map(str, set(entry) - known))]
    return [(entry["model"], mapping(entry.get("parameters"), f"parameters of {entry['model']}", mistakes)) for entry in entries]


def mapping(given: Any, what: str, mistakes: list[str]) -> dict[str, Any]:
    """What should be a mapping, and is none where it is left out."""
    if given is not None and not isinstance(given, Mapping):
        mistakes.append(f"{what}: write names and values, this is {given!r}")
    return dict(given) if isinstance(given, Mapping) else {}


def over_all(name: str, values: Sequence[Any], slices: Sequence[KitSlice], mistakes: list[str]) -> Any:
    """One value over the depth of the result from the slices' own; None stands for a slice that has no use for it."""
    told = [value for value in values if value is not None]
    if len(slices) == 1 or not told or all(value == told[0] and not _graded(value) for value in told):
        return told[0] if told else None
    wrong = [sentence for value in told for sentence in miswritten(name, value)]
    if wrong or not all(isinstance(number, int | float) and not isinstance(number, bool) for value in told for number in numbers(value)):
        mistakes += wrong or [f"parameter {name!r} differs between the slices, and only a number can; here it is one for all of them"]
        return None
    filled = [told[0] if value is None else value for value in values]
    filters = {tuple(entry.get("filter", "*") for entry in value) for value in filled if _filtered(value)}
    if len(filters) > 1:
        mistakes.append(f"parameter {name!r} has other filters in one slice than in another; write the same filters, in one order, in each")
        return None
    if not filters:
        return _joined(filled, slices)
    parts = [[entry["value"] for entry in value] if _filtered(value) else None for value in filled]
    joined = []
    for place, words in enumerate(next(iter(filters))):
        value = _joined([own[place] if own else whole for own, whole in zip(parts, filled, strict=True)], slices)
        joined.append({"value": value} if words in ("*", "") else {"filter": words, "value": value})
    return joined


def within(value: Any, first: int, count: int, layers: int) -> Any:
    """What a value over the depth of `layers` layers is for a slice of `count` of them from `first`, as mergekit writes it."""
    if _filtered(value):
        return [{**entry, "value": within(entry["value"], first, count, layers)} for entry in value]
    if not isinstance(value, list):
        return value
    found = [at(value, "", place / (layers - 1) if layers > 1 else 1.0) for place in range(first, first + count)]
    return found[0] if len(set(found)) == 1 else found


def _slice(what: str, entry: Any, only: bool, mistakes: list[str]) -> KitSlice:
    held = mapping(entry, what, mistakes)
    mistakes += [f"{what}: {name} is not read here; remove it" for name in sorted(map(str, set(held) - {"sources", "parameters"}))]
    sources = read_sources(held.get("sources"), f"{what}.sources", {"model", "parameters", "layer_range"}, mistakes)
    mistakes += [] if held.get("sources") else [f"{what}: it has no sources; name the models it is made of"]
    ranges = [source.get("layer_range") for source in held["sources"]] if sources else []
    names = [name for name, _ in sources]
    mistakes += [f"{what}: {name} is there twice; name it once in a slice" for name in dict.fromkeys(names) if names.count(name) > 1 > only]
    parameters = mapping(held.get("parameters"), f"{what}.parameters", mistakes)
    return KitSlice(_range(what, ranges, only, mistakes), sources, parameters)


def _range(what: str, ranges: Sequence[Any], only: bool, mistakes: list[str]) -> tuple[int, int] | None:
    """The layers that all sources of a slice give; None where none does and the slice is the only one."""
    if not ranges or (only and all(given is None for given in ranges)):
        return None
    if not all(isinstance(given, list) and len(given) == 2 and all(isinstance(end, int) for end in given) for given in ranges):
        mistakes.append(f"{what}: each source needs layer_range: [first, one after the last]")
        return None
    if any(given != ranges[0] for given in ranges):
        mistakes.append(f"{what}: its sources have other layers of each model; here a slice takes the same layers of all")
    return ranges[0][0], ranges[0][1]


def _joined(values: Sequence[Any], slices: Sequence[KitSlice]) -> Any:
    """One number for each layer of the result, or one for all."""
    found = [number for value, given in zip(values, slices, strict=True) for number in _spread(value, given.count)]
    return found[0] if len(set(found)) == 1 else found


def _spread(value: Any, count: int) -> Iterator[float]:
    for place in range(count):
        yield at(value, "", place / (count - 1) if count > 1 else 1.0)


def _filtered(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _graded(value: Any) -> bool:
    """Whether a list of numbers stands in it, which goes over a slice there and over all layers here."""
    return any(_graded(entry["value"]) for entry in value) if _filtered(value) else isinstance(value, list)
