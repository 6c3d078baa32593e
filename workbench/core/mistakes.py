"""What is wrong with a spec, in sentences: pydantic's findings as a person reads them. Knows no spec by name."""

import difflib
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError


def sentences(error: ValidationError, known: Collection[str]) -> list[str]:
    """One for each mistake; what is wrong with the whole is one a line already. `known` are the names there are."""
    found = []
    for line in error.errors():
        place = ".".join(map(str, line["loc"]))
        whole = not place and line["type"] == "value_error"
        found += str(line["ctx"]["error"]).splitlines() if whole else [_sentence(place or "the spec", line, known)]
    return found


def _sentence(place: str, line: Any, known: Collection[str]) -> str:
    given, limits = line["input"], line.get("ctx", {})
    match line["type"]:
        case "greater_than_equal":
            return f"{place} is {given}; it must be at least {limits['ge']:g}"
        case "greater_than":
            return f"{place} is {given}; it must be more than {limits['gt']:g}"
        case "less_than_equal":
            return f"{place} is {given}; it must be at most {limits['le']:g}"
        case "less_than":
            return f"{place} is {given}; it must be less than {limits['lt']:g}"
        case "extra_forbidden":
            return f"{place} is not known here; look for a slip of the pen{_nearest(place, known)}"
        case "missing":
            return f"{place} is missing"
        case "literal_error":
            return f"{place} is {given!r}; it must be {limits['expected']}"
        case "finite_number":
            return f"{place} is {given}; it must be a finite number"
        case "value_error":
            return f"{place}: {limits['error']}"
    return f"{place} is {given!r}: {line['msg'][0].lower()}{line['msg'][1:]}"


def _nearest(place: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(place.rpartition(".")[2], known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
