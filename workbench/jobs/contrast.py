"""Two selections of one data set beside one another: what both keep, what only one of them keeps.

What it is: the counting behind the Data tab's comparison and `data contrast`. What it is not: a judgement; which rows are better is for a
person, or a run with each, to say.
"""

from collections.abc import Generator
from dataclasses import dataclass

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs.steps import sifted
from workbench.materials import models


@dataclass(frozen=True)
class Contrast:
    """Numbers of rows, from 1 and ascending: those that both keep, those that the first alone keeps, those that the second alone keeps."""

    both: list[int]
    only_one: list[int]
    only_other: list[int]

    @property
    def overlap(self) -> float:
        """What both keep as a share of what either keeps (Jaccard); 1 where neither keeps any."""
        either = len(self.both) + len(self.only_one) + len(self.only_other)
        return len(self.both) / either if either else 1.0


def contrast(
    one: DataSpec, other: DataSpec, workspace: Workspace, model: str = models.POCKET, model_of_other: str = models.POCKET
) -> Generator[Progress, None, Contrast]:
    """What two recipes keep of the same data set, each with the model that is trained on it.

    Raises:
        WorkbenchError: they are of two data sets, or as `sifted`.
    """
    if (one.path, one.columns) != (other.path, other.columns):
        raise WorkbenchError(
            f"One selection is of {one.path!r} and the other of {other.path!r}, or they read its columns otherwise. "
            "Two selections can be compared where they choose among the same rows."
        )
    first = set((yield from sifted(one, workspace, model)).kept)
    second = set((yield from sifted(other, workspace, model_of_other)).kept)
    return Contrast(*([index + 1 for index in sorted(found)] for found in (first & second, first - second, second - first)))
