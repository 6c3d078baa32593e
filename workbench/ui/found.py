"""What an inspection found, on its run's page: pictures where a training run has its curves, sentences and tables beside them; and on the
page of a model what inspections have found of it.

Pure functions but for `Gallery`, which holds the figures. Ids: run-pictures, run-picture-0 …
"""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from workbench.core.events import Noted, Table
from workbench.core.picture import Picture
from workbench.jobs.inspect import NUMBERS, pictures_of
from workbench.runs.records import Run
from workbench.runs.store import Store
from workbench.ui import plots
from workbench.ui.cards import escaped
from workbench.ui.cards import table as plain_table
from workbench.ui.words import run_label

KINDS = ("inspect",)  # of runs that find something and make nothing
FIGURES = 4  # pictures of one finding
ROWS = 100  # of a table that are shown


class Gallery:
    """As many figures as a finding may have; those without a picture are not shown."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="run-pictures") as self.column:
            self.figures = [
                gr.Plot(show_label=False, visible=False, elem_id=f"run-picture-{place}", elem_classes=["figure"])
                for place in range(FIGURES)
            ]

    @property
    def outputs(self) -> list[Any]:
        return [self.column, *self.figures]

    def filled(self, store: Store, run: Run | None) -> list[Any]:
        """What goes into `outputs` for this run."""
        drawn = figures(store.tables(run.id), pictures_of(method_of(run))) if run is not None and run.kind == "inspect" else []
        shown = [gr.Plot(value=figure, visible=True) for figure in drawn[:FIGURES]]
        return [gr.Column(visible=bool(shown)), *shown, *[gr.Plot(value=None, visible=False)] * (FIGURES - len(shown))]


def method_of(run: Run) -> str:
    """The name of an inspecting run's inspection."""
    return str(run.spec["inspection"]["method"])


def figures(tables: Sequence[Table], pictures: Sequence[Picture]) -> list[Any]:
    """A figure for each picture whose table is there."""
    by_name = {table.name: table for table in tables}
    return [plots.pictured(by_name[picture.table], picture) for picture in pictures if picture.table in by_name]


def sentences(noted: Sequence[Noted]) -> str:
    """What was found, in the order in which it was said."""
    return "".join(f"<p>{escaped(note.text)}</p>" for note in noted)


def tables(found: Sequence[Table]) -> str:
    """Each table but the numbers that are held against other runs'."""
    shown = [table for table in found if table.name != NUMBERS]
    return "".join(f"<h3>{escaped(table.name.capitalize())}</h3>{plain_table(table.columns, table.rows, ROWS)}" for table in shown)


def of_model(store: Store, reference: str) -> str:
    """What finished inspections found of a model, newest first: a row for each number; empty where there is none."""
    rows = []
    for run in store.runs("inspect"):
        if run.status == "finished" and reference in run.spec["models"]:
            numbers = next((table for table in store.tables(run.id) if table.name == NUMBERS), None)
            rows += [[run_label(run.id, method_of(run).replace("_", " ")), *row] for row in (numbers.rows if numbers else [])]
    return plain_table(["inspection", "model", "measure", "value"], rows, ROWS) if rows else ""
