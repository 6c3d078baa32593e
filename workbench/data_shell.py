"""Data sets from a shell: `python -m workbench data ingest|inspect|clean|select|compare|export|relate`, the same recipes as in the page.

A recipe is a `DataSpec` as YAML (`path`, `selectors`, …), or is put together from `--step`. Findings and tables go to stdout, progress to
stderr. Not here: what a step does (`methods/selectors/`) or how it is counted (`jobs/steps.py`).
"""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event
from workbench.core.method import shelf
from workbench.core.parts import DataSpec
from workbench.core.settings import setting
from workbench.runs.failures import sentence
from workbench.runs.text import ProgressLine, as_json
from workbench.shell import drained, registry, report, workspace_of

app = typer.Typer(help="Bring data sets in, look at them, clean them, select from them, export them.", no_args_is_help=True)

Home = Annotated[Path | None, typer.Option("--home", help="The workspace folder; WORKBENCH_HOME or ./workspace if not given.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set of the workspace, a demo data set, or a file.")]
Steps = Annotated[
    list[str] | None,
    typer.Option("--step", metavar="METHOD[:KNOB=VALUE,…]", help="A step, for example length:most=2000. May be repeated; in this order."),
]
Recipe = Annotated[Path | None, typer.Option("--recipe", metavar="FILE.yaml", help="A recipe; --step adds to its steps.")]
Model = Annotated[str, typer.Option("--model", help="The model whose tokens are counted, and that reads where a step asks for a reading.")]
As = Annotated[str, typer.Option("--as", metavar="NEW", help="What the data set that is made is called.")]


@app.command()
def ingest(
    file: Annotated[Path, typer.Argument(help="A JSONL, JSON, CSV, Parquet, Arrow or text file; or a folder or a .zip of such files.")],
    name: Annotated[str, typer.Option(help="What the data set is called; the file's name if not given.")] = "",
    column: Annotated[list[str] | None, typer.Option(metavar="ROLE=COLUMN", help="Where a role is found, for example prompt=q.")] = None,
    home: Home = None,
) -> None:
    """Take a file into the workspace and say what was found in it."""
    registry()
    from workbench.jobs.columns import named_after
    from workbench.jobs.ingest import ingest as work

    columns = dict(_pair(text) for text in column or [])
    _follow(work(file, name or named_after(file), workspace_of(home), columns))


@app.command()
def inspect(name: Name, step: Steps = None, recipe: Recipe = None, model: Model = "pocket", json: bool = False, home: Home = None) -> None:
    """Say what a person should know of a data set under its steps: findings, what each step drops, tokens learnt and cut."""
    registry()
    from workbench.jobs.curate import looking, tokenizer_of

    spec, workspace = _recipe(name, recipe, step), workspace_of(home)
    found = drained(looking(spec, tokenizer_of(model, workspace), workspace, model), "data")
    values = {
        "data set": found.name, "format": found.format, "rows": found.rows, "could not be read": found.rejected, "kept": found.kept,
        "tokens read": found.tokens, "tokens learnt": found.trained, "tokens cut off": found.cut, "rows counted": found.measured,
    }  # fmt: skip
    steps = [{"title": step.title, "dropped": step.dropped, "changed": step.changed} for step in found.steps]
    issues = [
        {
            "level": issue.level,
            "text": issue.text,
            "rows": issue.rows,
            "remedy": issue.remedy,
            "knobs": dict(issue.knobs),
            "columns": dict(issue.columns),
        }
        for issue in found.issues
    ]  # fmt: skip
    if json:
        typer.echo(as_json({**values, "steps": steps, "issues": issues}))
        return
    typer.echo("\n".join(f"{what}: {value:,}" if isinstance(value, int) else f"{what}: {value}" for what, value in values.items()))
    typer.echo("".join(f"\nstep {place}: {one['title']} drops {one['dropped']:,}" for place, one in enumerate(steps, 1)))
    for issue, written in zip(issues, [one.step for one in found.issues], strict=True):
        other = " ".join(f"--column {shlex.quote(f'{role}={column}')}" for role, column in issue["columns"].items())
        remedy = f"--step {shlex.quote(written)}" if written else f"data ingest FILE {other}" if other else ""
        typer.echo(f"{issue['level']}: {issue['text']}" + (f" Remedy: {remedy}" if remedy else ""))


@app.command()
def clean(name: Name, new: As, recipe: Recipe = None, model: Model = "pocket", home: Home = None) -> None:
    """Do the step that is for each finding, with the knobs that it has there, and keep what is left as a new data set."""
    registry()
    from workbench.jobs.curate import looking, tokenizer_of
    from workbench.jobs.deriving import derive, remedies

    spec, workspace = _recipe(name, recipe, None), workspace_of(home)
    found = drained(looking(spec, tokenizer_of(model, workspace), workspace, model), "data")
    wanted = [issue for issue in found.issues if issue.level != "info"]
    order = remedies([one.kind.partition(":")[0] for one in wanted])
    steps = list(dict.fromkeys(one.step for step in order for one in wanted if one.remedy == step))
    if not steps:
        raise WorkbenchError(f"Nothing was found in {name!r} that a step is for. See: python -m workbench data inspect {name}")
    typer.echo(f"steps: {', '.join(shelf('selectors')[step.partition(':')[0]].title() for step in steps)}")
    _follow(derive(_recipe(name, recipe, steps), new, workspace, model))


@app.command()
def select(name: Name, new: As, step: Steps = None, recipe: Recipe = None, model: Model = "pocket", home: Home = None) -> None:
    """Do a recipe's steps and keep what they keep as a new data set; the old one stays as it is."""
    registry()
    from workbench.jobs.deriving import derive

    _follow(derive(_recipe(name, recipe, step), new, workspace_of(home), model))


@app.command()
def compare(
    name: Name,
    beside: Annotated[Path, typer.Option(metavar="FILE.yaml", help="The other recipe.")],
    step: Steps = None,
    recipe: Recipe = None,
    model: Model = "pocket",
    json: bool = False,
    home: Home = None,
) -> None:
    """Say which rows two recipes keep of the same data set: both, or only one of them."""
    registry()
    from workbench.jobs.contrast import contrast

    found = drained(contrast(_recipe(name, recipe, step), _recipe(name, beside, None), workspace_of(home), model, model), "data")
    if json:
        typer.echo(as_json({**vars(found), "overlap": found.overlap}))
        return
    for words, rows in (("both", found.both), ("only the first", found.only_one), ("only the other", found.only_other)):
        first = ", ".join([*map(str, rows[:10]), *(["…"] if len(rows) > 10 else [])])
        typer.echo(f"{words}: {len(rows):,}" + (f" (rows {first})" if rows else ""))
    typer.echo(f"{found.overlap:.0%} of what either keeps is kept by both")


@app.command()
def export(
    name: Name,
    to: Annotated[Path, typer.Option(help="The folder that is written; it must not be there yet.")],
    form: Annotated[str, typer.Option("--format", help="How rows are written; a wrong name lists all.")] = "messages",
    step: Steps = None,
    recipe: Recipe = None,
    model: Model = "pocket",
    home: Home = None,
) -> None:
    """Write what a recipe keeps, with a data card, for other programs or for another workspace."""
    registry()
    from workbench.jobs.deriving import exported

    _follow(exported(_recipe(name, recipe, step), to, form, workspace_of(home), model))


@app.command()
def relate(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Two data sets or more.")],
    model: Model = "pocket",
    json: bool = False,
    home: Home = None,
) -> None:
    """Say which data sets are alike to a model: what to tune on first, or what to add to a mixture."""
    registry()
    from workbench.jobs.relating import nearest, related

    found = drained(related(names, workspace_of(home), model), "data")
    if json:
        typer.echo(as_json({"sets": names, "cosines": found}))
        return
    for name in names:
        typer.echo(f"{name}: " + ", ".join(f"{other} {value:.4f}" for other, value in nearest(names, found, name)))


def _recipe(name: str, recipe: Path | None, steps: list[str] | None) -> DataSpec:
    """The recipe of a file, of another data set, with more steps behind its own."""
    given: Any = {}
    if recipe is not None:
        try:
            given = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise WorkbenchError(f"The recipe {recipe} cannot be read: {' '.join(str(error).split())}. Give a YAML file.") from error
    if isinstance(given, Mapping) and isinstance(given.get("data"), Mapping):
        given = given["data"]  # a training spec holds its recipe there
    if not isinstance(given, Mapping):
        raise WorkbenchError(f"The recipe {recipe} is no mapping. Write `selectors:` with a list of steps below it.")
    own = given.get("selectors") or []
    if not isinstance(own, list) or not all(isinstance(key, str) for key in given):
        raise WorkbenchError(f"The recipe {recipe} cannot be understood. Write `selectors:` with a list of steps below it.")
    return DataSpec.parse({**given, "path": name, "selectors": [*own, *map(_step, steps or [])]})  # type: ignore[return-value]


def _step(text: str) -> dict[str, Any]:
    """`length:most=200,fewest=3` as it stands in a recipe; the values are read as YAML."""
    method, _, knobs = text.partition(":")
    return {"method": method.strip(), **dict(setting(knob) for knob in knobs.split(",") if knob.strip())}


def _follow(events: Iterator[Event]) -> None:
    """Show the events of a job without a run until it is over."""
    line = ProgressLine()
    try:
        for event in events:
            report(event, line)
    except (OSError, MemoryError) as error:
        raise WorkbenchError(sentence(error)) from error
    finally:
        line.end()


def _pair(text: str) -> tuple[str, str]:
    role, equals, column = text.partition("=")
    if not (role and equals and column):
        raise WorkbenchError(f"--column {text!r} is not of the form ROLE=COLUMN, for example --column prompt=question.")
    return role, column
