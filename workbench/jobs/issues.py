"""What a finding in a data set is: a sentence, the rows that it is about, and what a person can do with one click.

What it is not: what is found (`findings.py`, `looked.py`) or how it is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.core.method import shelf
from workbench.core.sifting import Part
from workbench.methods.contracts import Selector

NAMED = 200  # row numbers a finding names
Level = Literal["act", "watch", "info"]


@dataclass(frozen=True)
class Issue:
    """Something a person should know of the data; `rows` are row numbers from 1, the first `NAMED` of `count`.

    `kind` tells the findings of a data set apart; `remedy` is the name of a step that is for it, empty where there is none, and `knobs`
    those that are then not at their defaults. Where the file can be read otherwise, `columns` says how (none is as it is found by itself),
    and `offer` what that is called.
    """

    kind: str
    text: str
    level: Level
    count: int
    rows: list[int]
    remedy: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    offer: str = ""
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> str:
        """The remedy as it is written in a shell."""
        knobs = ",".join(f"{name}={value}" for name, value in self.knobs.items())
        return f"{self.remedy}:{knobs}" if knobs else self.remedy


def remedy(kind: str) -> type[Selector] | None:
    """The step that is for this kind of finding."""
    return next((step for step in shelf("selectors").values() if kind in step.mends), None)


def issue(kind: str, text: str, level: Level, indices: Sequence[int], about: str = "", part: Part = "row") -> Issue:
    """A finding about these rows (indices), and about another data set or a language, with the step that is for it."""
    step, named = remedy(kind), [index + 1 for index in indices[:NAMED]]
    if step is None:
        return Issue(kind, text, level, len(indices), named)
    usual = step().model_dump()
    knobs = {name: value for name, value in step.mending(about, part).model_dump().items() if value != usual[name]}
    return Issue(kind, text, level, len(indices), named, step.name, knobs=knobs)


def counted(rows: int, one: str, many: str) -> str:
    """`1 row is`, `12 rows are`."""
    return f"1 row {one}" if rows == 1 else f"{rows:,} rows {many}"
