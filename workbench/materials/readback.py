"""Whether what was written of a row is read back as the row; what the writers ask of every row, so that no file holds an altered one."""

import json
from collections.abc import Mapping
from typing import Any

from workbench.materials import records as rec
from workbench.materials.rows import Example, Reject
from workbench.materials.sayings import UnsayableError

HUGE = f"has {rec.HUGE // 1_000_000} million characters or more, which are not read back"


def packed(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UnsayableError(f"holds a value that JSON has no word for ({error})") from error


def check(row: Example, back: Example | Reject, meta: Mapping[str, Any]) -> None:
    """Whether what is read back is the row."""
    if isinstance(back, Reject):
        raise UnsayableError(f"would not be read back: {back.reason}")
    said = {"turns": (row.messages, back.messages), "worse answer": (row.worse, back.worse), "text": (row.text, back.text)}
    for what, (one, other) in {**said, "learnt places": (row.learn, back.learn)}.items():
        if not same(one, other):
            raise UnsayableError(f"would be read back with other {what}" if what[-1] == "s" else f"would be read back with another {what}")
    if not same(meta, back.meta):
        column = next(
            name for name in (*meta, *back.meta) if name not in meta or name not in back.meta or not same(meta[name], back.meta[name])
        )
        raise UnsayableError(f"has a column {column!r} that would not be read back as it is")


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same to the last digit and kind: 1 is neither 1.0 nor true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))
