"""A map of a data set under a recipe: where its rows lie by meaning, which of them stay, and two gauges of what stays.

What it is: readings of a model (`materials/around.py`) made flat (`materials/terrain.py`), on request, because they take time. What it is
not: a selection; it drops nothing. Tags as in the project's notes: [REC] after the idea of ILA (arXiv:2509.06463), [O] our own choice.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch

from workbench.core.events import Progress
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs.steps import sifted
from workbench.materials import terrain
from workbench.materials.around import Around
from workbench.materials.rows import Chosen

MOST = 2000  # rows on the map: more are a blot, and take minutes to read on a CPU
BEGINS = 160  # characters of a row that are shown


@dataclass(frozen=True)
class Spot:
    """A row on the map: its number from 1, where it lies, whether it stays, and how it begins."""

    row: int
    x: float
    y: float
    stays: bool
    text: str


@dataclass(frozen=True)
class Survey:
    """`coverage` is the share of the map's cells with rows in them that what stays reaches; `depth` is how many nats a row that stays
    teaches (the surprise of its answer, added up), beside that of all rows; NaN where there is none."""

    spots: list[Spot]
    sampled: bool
    coverage: float
    depth: float
    depth_of_all: float


def survey(spec: DataSpec, workspace: Workspace, model: str) -> Generator[Progress, None, Survey]:
    """The map of at most `MOST` rows, taken evenly from all that can be read, with those that steps drop.

    Raises:
        WorkbenchError: as `sifted`, or the model cannot be had.
    """
    data = yield from sifted(spec, workspace, model)
    rows = list(range(0, len(data.examples), math.ceil(len(data.examples) / MOST)))
    examples, around = list(Chosen(data.examples, rows)), Around(workspace, model)
    points = terrain.flat((yield from around.vectors(examples)))
    depths = (yield from around.surprise(examples))[:, 0]
    kept = set(data.kept)
    stays = torch.tensor([row in kept for row in rows])
    grid = max(1, math.ceil(math.sqrt(len(rows) / 4)))  # about four rows a cell [REC]
    spots = [
        Spot(row + 1, *place, stay, example.as_text()[:BEGINS])
        for row, place, stay, example in zip(rows, points.tolist(), stays.tolist(), examples, strict=True)
    ]
    return Survey(
        spots=spots,
        sampled=len(rows) < len(data.examples),
        coverage=terrain.coverage(stays, terrain.cells(points, grid)),
        depth=terrain.mean_depth(stays, depths),
        depth_of_all=terrain.mean_depth(torch.ones_like(stays), depths),
    )
