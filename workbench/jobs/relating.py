"""Which data sets are alike to a model: the cosine of their mean vectors, to choose what is tuned on first, or what to add.

After "What to pre-train on?" (Poth et al., arXiv:2104.08247): a set is the mean over its rows of the mean of their last hidden states, and
sources are ranked by their cosine to the target [R]. There a sentence encoder did best; here the model that is tuned reads the rows [O].
What it is not: a promise. In the paper the best of the first three lost under 1 % to the best of 42 [P]. Means lie close together, so the
order counts more than the number.
"""

import math
from collections.abc import Generator, Sequence

import torch

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.workspace import Workspace
from workbench.materials.around import Around
from workbench.materials.corpus import load
from workbench.materials.models import POCKET
from workbench.materials.rows import Chosen

MOST = 1000  # rows of a set that are read [R]; taken evenly


def related(names: Sequence[str], workspace: Workspace, model: str = POCKET) -> Generator[Progress, None, list[list[float]]]:
    """The M × M cosines of the sets' mean vectors, symmetric with ones on the diagonal.

    Raises:
        WorkbenchError: fewer than two sets, or one that cannot be had.
    """
    if len(names) < 2:
        raise WorkbenchError("One data set alone is like nothing. Name two or more.")
    around, means = Around(workspace, model), []
    for name in names:
        examples = load(name, workspace).examples
        rows = list(Chosen(examples, range(0, len(examples), math.ceil(len(examples) / MOST))))
        means.append((yield from around.vectors(rows)).mean(0))
    unit = torch.nn.functional.normalize(torch.stack(means).double(), dim=-1)
    return (unit @ unit.T).clamp(-1, 1).tolist()


def nearest(names: Sequence[str], cosines: Sequence[Sequence[float]], target: str) -> list[tuple[str, float]]:
    """The other sets with their cosines to the target, the most alike first."""
    row = cosines[names.index(target)]
    return sorted(((name, value) for name, value in zip(names, row, strict=True) if name != target), key=lambda pair: (-pair[1], pair[0]))
