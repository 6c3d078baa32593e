"""What jobs that learn from earlier runs read of the database of runs, which they are given and never open."""

from collections.abc import Sequence
from typing import Any, Protocol

from workbench.core.events import Table


class Records(Protocol):
    """Runs newest first, the tables of one, and one of its lines as (steps, values)."""

    def runs(self, kind: str | None = None) -> Sequence[Any]: ...
    def tables(self, run: str) -> list[Table]: ...
    def series(self, run: str, name: str) -> tuple[list[int], list[float]]: ...
