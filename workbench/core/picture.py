"""What an inspection found, and how that is drawn: plain values, which the page draws and the shell prints.

What it is not: the drawing (`ui/plots.py`), or an event; the job tells of a finding in events (`jobs/inspect.py`).
"""

from dataclasses import dataclass, field
from typing import Literal

from workbench.core.events import Table


@dataclass(frozen=True)
class Picture:
    """How a table is drawn; x, y, value and each are names of its columns.

    heat: a cell for each x and y, coloured by value. bars: a bar of y for each x. lines: y over x. points: a dot at x and y, with the
    words of `value` beside it. One colour, or for heat one panel, for each different entry of `each`. mark: a line across at that y (of
    heat nowhere). y and value stand in the axis or the legend as they are called, so columns carry their units.
    """

    table: str
    kind: Literal["heat", "bars", "lines", "points"]
    title: str
    x: str
    y: str
    value: str = ""
    each: str = "model"
    log: bool = False
    mark: float | None = None


@dataclass(frozen=True)
class Finding:
    """says: sentences, each with its figure; the first is the answer. numbers: by tuned model the few that are held against other runs'.

    A number that cannot be had (of a model that changed nothing) is left out.
    """

    says: list[str]
    tables: list[Table]
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
