"""What a run found that made nothing (an inspection, an evaluation, a report), on its page: pictures where a training run has its curves,
sentences beside them, tables below; and on the page of a model what was found of it before.

Pure functions but for `gallery`, where the figures stand. Ids: run-picture-0 …
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from workbench.core import claim
from workbench.core.asking import FINDING
from workbench.core.events import Noted, Table
from workbench.core.picture import Picture
from workbench.jobs import evaluate, report
from workbench.jobs.inspect import NUMBERS, pictures_of
from workbench.runs.records import Run
from workbench.runs.store import Store
from workbench.ui import plots
from workbench.ui.cards import escaped
from workbench.ui.cards import table as plain_table
from workbench.ui.context import Context
from workbench.ui.forms import DRAWN
from workbench.ui.words import run_label

ROWS = 100  # of a table that are shown
RUNS = 12  # training runs that a report is held against
FORGOTTEN, LEARNT = "base_loss", "validation_loss"
MARKS = {True: "✓ ", False: "✗ ", None: ""}  # nobody knows of an answer to a question alone


def gallery(ctx: Context) -> gr.State:
    """Where a run's pictures stand; the state that is returned says which run's, as `NUMBER:STATUS`, or "" for none."""
    pictured = gr.State("")

    @gr.render(inputs=[pictured], **DRAWN)
    def draw(shown: str) -> None:
        if shown:
            run = ctx.store.run(shown.partition(":")[0])
            for number, figure in enumerate(drawn_of(ctx.store, run)):
                gr.Plot(figure, show_label=False, elem_id=f"run-picture-{number}", elem_classes=["figure"])

    return pictured


def drawn_of(store: Store, run: Run) -> list[Any]:
    """The figures of this run; a report begins with how the run stands among others."""
    return [*plane(store, run), *figures(store.tables(run.id), pictures(run))]


def plane(store: Store, run: Run) -> list[Any]:
    """Learning against forgetting of the reported run and of those before it, where it was measured as they learnt."""
    kind, _, reported = str(run.spec.get("model", "")).partition(":")
    if run.kind != "report" or kind != "run":
        return []
    trained = [one for one in store.runs("train") if {FORGOTTEN, LEARNT} <= set(one.metrics)]
    others, own = [one for one in trained if one.id != reported], [one for one in trained if one.id == reported]
    if not own:
        return []
    shown = {one.id: one for one in [*others[: RUNS - 1], *own]}
    ways = {escaped(run_label(one.id, one.name)): store.lines(one.id, [FORGOTTEN, LEARNT]) for one in shown.values()}
    colours = {escaped(run_label(one.id, one.name)): plots.run_colour(one.id) for one in shown.values()}
    return [plots.plane({label: (way[FORGOTTEN], way[LEARNT]) for label, way in ways.items()}, colours)]


def pictures(run: Run) -> Sequence[Picture]:
    """How the tables of this run are drawn."""
    match run.kind:
        case "inspect":
            return pictures_of(run.spec["inspection"]["method"])
        case "report":
            return report.pictures([inspection["method"] for inspection in run.spec["inspections"]])
        case "claim":
            return claim.PICTURES
    return evaluate.PICTURES


def figures(tables: Sequence[Table], pictures: Sequence[Picture]) -> list[Any]:
    """A figure for each picture whose table is there."""
    by_name = {table.name: table for table in tables}
    return [plots.pictured(by_name[picture.table], picture) for picture in pictures if picture.table in by_name]


def sentences(noted: Sequence[Noted]) -> str:
    """What was found, in the order in which it was said."""
    return f'<ul class="notes found">{"".join(f"<li>{escaped(note.text)}</li>" for note in noted)}</ul>' if noted else ""


def tables(found: Sequence[Table]) -> str:
    """Each table but the numbers that are held against other runs'; answers side by side."""
    first = sorted(found, key=lambda table: table.name != report.CHANGED)
    shown = [side_by_side(table) if table.name == evaluate.ANSWERS else table for table in first if table.name != NUMBERS]
    return "".join(f"<h3>{escaped(table.name.capitalize())}</h3>{plain_table(table.columns, table.rows, ROWS)}" for table in shown)


def side_by_side(answers: Table) -> Table:
    """A row for each question, a column for each model; where the models differ in being right comes first."""
    rows = [dict(zip(answers.columns, row, strict=True)) for row in answers.rows]
    models = list(dict.fromkeys(row["model"] for row in rows))
    questions: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        questions.setdefault((row["task"], row["row"], row["question"], row["wanted"]), {})[row["model"]] = row
    ordered = sorted(questions.items(), key=lambda item: len({row["right"] for row in item[1].values()}) < 2)
    drawn = [[task, question, wanted, *(_answer(said.get(model)) for model in models)] for (task, _, question, wanted), said in ordered]
    return Table(answers.name, ["task", "question", "wanted", *models], drawn)


def _answer(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{MARKS[None if row['right'] is None else bool(row['right'])]}{row['answer']}"


def of_model(store: Store, reference: str) -> str:
    """What was found of a model, newest first: a row for each number; empty where nothing was."""
    rows = [[run_label(run.id, run.name), *row] for run, row in _numbers(store) if reference in _asked(run)]
    return plain_table(["found by", "model", "measure", "value"], rows, ROWS) if rows else ""


def side_by_side_numbers(store: Store, runs: Sequence[Run]) -> str:
    """What was found of several runs, a row for each measure and a column for each model; empty where nothing was.

    Of a run that found something all its numbers are shown; of one that made a model the newest that were found of it.
    """
    shown = {run.id for run in runs}
    own = [str(run.spec["name"]) if run.kind == "merge" else f"run {run.id}" for run in runs]
    found: dict[str, dict[str, float]] = {}
    for run, (model, measure, value) in _numbers(store):
        if run.id in shown or model.split(" · ")[0] in own:
            found.setdefault(measure, {}).setdefault(model, value)
    models = sorted({model for values in found.values() for model in values})
    rows = [[measure, *(values.get(model) for model in models)] for measure, values in found.items()]
    return f"<h3>What was found of them</h3>{plain_table(['measure', *models], rows, ROWS)}" if rows else ""


def _asked(run: Run) -> list[str]:
    """References of the models that a run has looked at."""
    return [*run.spec.get("models", []), str(run.spec.get("model", ""))]


def _numbers(store: Store) -> Iterator[tuple[Run, list[Any]]]:
    """Each (model, measure, value) that a finished run found, newest first."""
    for run in store.runs():
        if run.kind in FINDING and run.status == "finished":
            yield from ((run, row) for table in store.tables(run.id) if table.name == NUMBERS for row in table.rows)
