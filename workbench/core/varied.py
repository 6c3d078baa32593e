"""A number that differs from tensor to tensor: by depth, or by what stands in the tensor's name. As mergekit writes it.

`0.5` · `[0.2, 0.8]` goes evenly from the first block to the last, through any number of points · `[{filter: mlp, value: 0.2},
{value: 0.8}]` takes the first entry whose filter is part of the name. Differs from mergekit on purpose: the final norm and the head
take a gradient's last number and not its first, because they stand at the end.
"""

import re
from collections.abc import Iterator
from typing import Any

AFTER_BLOCKS = re.compile(r"(^|\.)(norm|ln_f|final_layer_norm|lm_head|embed_out)\.")
Varied = float | list[Any]


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
