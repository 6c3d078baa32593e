"""A number that differs from tensor to tensor: by depth, or by what stands in the tensor's name. As mergekit writes it.

`0.5` · `[0.2, 0.8]` goes evenly from the first block to the last, through any number of points · `[{filter: mlp, value: 0.2},
{value: 0.8}]` takes the first entry whose filter is part of the name. Between two words the nearer counts, and a knob that is a whole
number is rounded. Differs from mergekit on purpose: the final norm and the head take a gradient's last number and not its first,
because they stand at the end.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

AFTER_BLOCKS = re.compile(r"(^|\.)(norm|ln_f|final_layer_norm|lm_head|embed_out)\.")
Varied = float | list[Any]
Part = tuple[str, list[float]]
"""What stands in the names of some tensors, and their numbers from the first block to the last; "" is for all the rest."""


def at(given: Varied, name: str, depth: float | None) -> float:
    """The number for the tensor `name`; depth is 0 in the first block, 1 in the last, None outside the blocks."""
    if not isinstance(given, list):
        return given
    if given and isinstance(given[0], dict):
        found = next((entry["value"] for entry in given if entry.get("filter", "*") in ("*", "") or entry["filter"] in name), None)
        if found is None:
            raise ValueError(f"no entry is for {name}; add one without a filter for all the rest")
        return at(found, name, depth)
    place = (depth if depth is not None else float(bool(AFTER_BLOCKS.search(name)))) * (len(given) - 1)
    place = round(place) if abs(place - round(place)) < 1e-9 else place  # 1/49·49 falls short of 1; as many points as blocks are exact
    below = min(int(place), len(given) - 2) if len(given) > 1 else 0
    share = place - below
    if isinstance(given[below], bool | str):
        return given[below + round(share)]  # there is nothing between two words: the nearer
    return given[below] if share == 0 else (1 - share) * given[below] + share * given[below + 1]


def numbers(given: Varied) -> Iterator[Any]:
    """Every number that stands in it."""
    if not isinstance(given, list):
        yield given
    for entry in given if isinstance(given, list) else ():
        yield from numbers(entry["value"]) if isinstance(entry, dict) else [entry]


def mistakes(what: str, given: Varied) -> Iterator[str]:
    """What is wrong with how it is written, a sentence each; the numbers themselves are for others to judge."""
    if not isinstance(given, list):
        return
    if not given:
        yield f"{what} is an empty list; write a number, a list of numbers from the first block to the last, or filters with values"
    elif any(isinstance(entry, dict) for entry in given):
        for entry in given:
            if not isinstance(entry, dict) or set(entry) - {"filter", "value"} or "value" not in entry:
                yield f"{what}: {entry!r} is no entry; write {{filter: part of a name, value: a number or a list of numbers}}"
            elif not isinstance(entry.get("filter", ""), str):
                yield f"{what}: the filter {entry['filter']!r} is not text"
            else:
                yield from mistakes(what, entry["value"])
        if not any(isinstance(entry, dict) and entry.get("filter", "*") in ("*", "") for entry in given):
            yield f"{what} has no entry for the tensors that no filter names; add one without a filter"


def apart(given: Varied) -> list[Part] | None:
    """As the rows of a form, the rest last; None where it holds more than such rows can: filters within filters, or what is no number."""
    entries = given if isinstance(given, list) and given and isinstance(given[0], dict) else [{"value": given}]
    found: list[Part] = []
    for entry in entries:
        value, name = entry["value"], entry.get("filter", "*")
        own = value if isinstance(value, list) else [value]
        if not own or not all(isinstance(number, int | float) and not isinstance(number, bool) for number in own):
            return None
        found.append(("" if name == "*" else name, [float(number) for number in own]))
        if not found[-1][0]:
            return found  # what comes behind it is for no tensor
    return None


def together(parts: Sequence[Part]) -> list[Any]:
    """The rows of a form as a spec has them; `apart` gives them back."""
    *named, (_, rest) = parts
    if not named:
        return list(rest)
    found = [{"filter": name, "value": _one_or_all(own)} for name, own in named]
    return [*found, {"value": _one_or_all(rest)}]


def spaced(given: Sequence[float], count: int) -> list[float]:
    """So many points of the curve through these, evenly from its first to its last."""
    places = [place / (count - 1) for place in range(count)] if count > 1 else [0.0]
    return [float(f"{at(list(given), '', place):.6g}") for place in places]


def _one_or_all(given: Sequence[float]) -> float | list[float]:
    return given[0] if len(given) == 1 else list(given)
