"""The jobs from a shell: `python -m workbench train SPEC.yaml`, the same runner, store and specs as in the page.

Results go to stdout, progress to stderr, a failure is sentences on stderr and an exit status, never a traceback. Heavy modules
are imported inside the commands that need them, so that listing runs starts at once.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from workbench import claim_shell, data_shell, query_shell
from workbench.core import environment
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Progress, to_dict
from workbench.core.imports import ending_at_once
from workbench.core.parts import Spec
from workbench.core.performance import SPEED, performance, told
from workbench.core.settings import override, setting
from workbench.core.spec import TrainSpec, parse_spec, read_spec
from workbench.runs.text import ProgressLine, as_json, grid, method_as_values, run_as_values, run_in_full, runs_list, table
from workbench.shell import drained, finish, looking, registry, report, with_groups, workspace_of


class PlainGroup(TyperGroup):
    """Commands whose mistakes are told in sentences on stderr."""

    def invoke(self, ctx: Any) -> Any:
        environment.tell()
        try:
            return super().invoke(ctx)
        except WorkbenchError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error


app = with_groups(
    typer.Typer(
        name="workbench",
        cls=PlainGroup,
        help="Fine-tune language models from the shell. The same runs as in the page.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    ),
    claim_shell.claim,
    query_shell.query,
    data=data_shell.app,
)

Home = Annotated[Path | None, typer.Option("--home", help="The workspace folder; WORKBENCH_HOME or ./workspace if not given.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change one value of the spec; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON; numbers that are not finite become text.")]
Data = Annotated[list[str] | None, typer.Option(help="A data set whose questions are asked. Repeat it for more.")]
Scorer = Annotated[str, typer.Option(help="What counts as right: exact match, contains, or matches.")]
Column = Annotated[str, typer.Option(help="The column with the right answer; the row's own if not given.")]
Pattern = Annotated[str, typer.Option(help="Regular expression of the part of an answer that counts.")]
Rows = Annotated[int, typer.Option(min=1, help="At most so many rows of each set, drawn at random.")]
SpecFile = Annotated[Path | None, typer.Argument(metavar="SPEC.yaml", help="The spec of the job.")]


@app.command()
def methods(json: Json = False, home: Home = None) -> None:
    """List every method with its paper and its knobs."""
    shelves = registry()
    found = [method for shelf in sorted(shelves) for _, method in sorted(shelves[shelf].items())]
    if json:
        typer.echo(as_json([method_as_values(method) for method in found]))
    else:
        typer.echo(
            grid([[method.shelf, method.name, method.title(), method.paper] for method in found], ["shelf", "name", "title", "paper"])
        )


@app.command()
def train(
    spec: SpecFile = None,
    set: Set = None,
    resume: Annotated[str, typer.Option(metavar="RUN", help="Go on with a run that was stopped, failed or was interrupted.")] = "",
    vary: Annotated[str, typer.Option(metavar="NAME=A,B,…", help="A run for each value of a setting, one after the other.")] = "",
    home: Home = None,
) -> None:
    """Train as a spec says. Ctrl-C stops after the step at work and keeps a checkpoint."""
    if (spec is None) == (not resume):
        raise WorkbenchError("Give either a spec file or --resume RUN, for example: python -m workbench train assets/demos/quickstart.yaml")
    if resume and set:
        raise WorkbenchError("A run is resumed as it is, so --set cannot be used with --resume. Start a new run from its spec instead.")
    if resume and vary:
        raise WorkbenchError("A run is resumed as it is, so --vary cannot be used with --resume. Start new runs from its spec instead.")
    registry()
    if vary and spec:
        for wanted in varied(read_spec(spec, set or []), vary):
            finish(wanted, home, kind="train")
        return
    finish(read_spec(spec, set or []) if spec else resume, home, kind="train")


def varied(spec: Spec, vary: str) -> list[TrainSpec]:
    """The specs that `--vary` asks for, with their mistakes before the first is run."""
    from workbench.jobs.sweep import several, swept

    name, equals, values = vary.partition("=")
    if not equals or not isinstance(spec, TrainSpec):
        raise WorkbenchError(f"--vary {vary!r} is not of the form NAME=A,B,… for a training spec, for example update.lr=1e-4,1e-3.")
    return swept(spec, name.strip(), several(values))


@app.command()
def plan(spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml")], set: Set = None, home: Home = None) -> None:
    """Say what a training run would move and cost, after trying three of its steps; nothing is kept."""
    registry()
    from workbench.jobs.trial import planned

    given = read_spec(spec, set or [])
    if not isinstance(given, TrainSpec):
        raise WorkbenchError("Only a training run can be planned. This spec is of another kind.")
    line = ProgressLine()
    for said in planned(given, workspace_of(home)):
        if isinstance(said, Progress):
            report(said, line)
        else:
            line.end()
            typer.echo(said)
    line.end()


@app.command()
def tell(
    run: Annotated[str, typer.Argument(help="The run's number, for example 0001.")],
    do: Annotated[str, typer.Option(help="What it is to do after the step at work: save, evaluate or sample.")] = "",
    set: Set = None,
    home: Home = None,
) -> None:
    """Ask something of a run at work: to save now, or to go on with another setting (--set update.lr=1e-4)."""
    registry()
    from workbench.jobs.steering import Wish, wish

    if not (do or set):
        raise WorkbenchError("Say what the run is to do (--do save), or which setting changes (--set update.lr=1e-4).")
    folder = workspace_of(home).home / "runs" / run.removeprefix("run:")
    wish(folder, Wish(do or None, dict(map(setting, set or []))))  # type: ignore[arg-type]
    typer.echo("Asked. It is done after the step at work.")


@app.command()
def merge(spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml")], set: Set = None, home: Home = None) -> None:
    """Merge models as a spec says; the merged model appears in the workspace whole or not at all."""
    registry("merges")
    finish(read_spec(spec, ["kind=merge", *(set or [])]), home, kind="merge")


@app.command()
def fold(
    adapter: Annotated[str, typer.Argument(help="What holds the adapter: a run as run:0001, model:NAME, or a folder.")],
    name: Annotated[str, typer.Option(help="What the model is called in the workspace.")],
    home: Home = None,
) -> None:
    """Write an adapter and its base as one ordinary model; it appears in the workspace whole or not at all."""
    from workbench.jobs.fold import fold as work

    typer.echo(f"model: {drained(work(adapter, name, workspace_of(home)), 'fold')}")


@app.command()
def compare(
    model: Annotated[
        list[str], typer.Option(help="A model that answers, for example pocket or run:0001. Repeat it; the first is the base.")
    ],
    prompt: Annotated[str, typer.Option(help="What all of them are asked.")],
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.")] = 64,
    seed: Annotated[int, typer.Option(help="Fixes the sampling.")] = 0,
    system: Annotated[str, typer.Option(help="A system message put before the prompt.")] = "",
    set: Set = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Ask up to four models the same; --set decoder=ensemble lets the first one have a say in the others' answers."""
    registry()
    given = {"kind": "compare", "models": model, "prompt": prompt, "system": system, "seed": seed}
    given |= {"temperature": temperature, "max_tokens": max_tokens, "token_view": False}
    finish(parse_spec(override(given, set or [])), home, kind="compare", json=json)


@app.command()
def inspect(
    inspection: Annotated[str, typer.Argument(help="Which inspection; python -m workbench methods lists them.")],
    model: Annotated[list[str], typer.Option(help="A tuned model, for example run:0001. Repeat it to hold several against each other.")],
    base: Annotated[str, typer.Option(help="What they were tuned from; what the first of them says if not given.")] = "",
    set: Set = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Say what tuning did to models; --set inspection.rows=NAME names the rows that are read."""
    registry()
    given = {"kind": "inspect", "models": model, "base": base, "inspection": {"method": inspection}}
    finish(parse_spec(override(given, set or [])), home, kind="inspect", json=json)


@app.command()
def evaluate(
    model: Annotated[list[str], typer.Option(help="A model that is asked. Repeat it; the others are held against the first.")],
    data: Data = None,
    task: Annotated[list[str] | None, typer.Option(help="A standard task by lm-eval's name, for example arc_easy. Repeat it.")] = None,
    scorer: Scorer = "exact match",
    column: Column = "",
    pattern: Pattern = "",
    rows: Rows = 64,
    set: Set = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Say how often models answer the questions of data sets rightly; with no data set those that runs held back."""
    registry()
    given = {"kind": "evaluate", "models": model, "sets": _sets(data, scorer, column, pattern, rows), "tasks": task or []}
    finish(parse_spec(override(given, set or [])), home, kind="evaluate", json=json)


@app.command("report")
def report_command(
    model: Annotated[str, typer.Argument(help="The tuned model, for example run:0001.")],
    base: Annotated[str, typer.Option(help="What it was tuned from; what it says if not given.")] = "",
    data: Data = None,
    scorer: Scorer = "exact match",
    column: Column = "",
    pattern: Pattern = "",
    rows: Rows = 64,
    set: Set = None,
    json: Json = False,
    home: Home = None,
) -> None:
    """Say what a model learnt and what it lost, and where in the network the change sits."""
    registry()
    given = {"kind": "report", "model": model, "base": base, "sets": _sets(data, scorer, column, pattern, rows)}
    finish(parse_spec(override(given, set or [])), home, kind="report", json=json)


def _sets(data: list[str] | None, scorer: str, column: str, pattern: str, rows: int) -> list[dict[str, Any]]:
    how = {"scorer": scorer, "column": column, "pattern": pattern, "most_rows": rows}
    return [{"data": name, **how} for name in data or []]


@app.command()
def runs(json: Json = False, home: Home = None) -> None:
    """List all runs, newest first."""
    with looking(home) as store:
        found = store.runs()
    typer.echo(as_json([run_as_values(run) for run in found]) if json else runs_list(found))


@app.command()
def show(run: Annotated[str, typer.Argument(help="The run's number, for example 0001.")], json: Json = False, home: Home = None) -> None:
    """Show everything on record of one run."""
    with looking(home) as store:
        found = store.run(run.removeprefix("run:"))
        events: list[Event] = [*store.made(found.id), *store.said(found.id), *store.tables(found.id), *store.notes(found.id)]
        speed = performance(
            found.metrics, found.step, lambda names, first: {name: store.series(found.id, name, first=first) for name in names}
        )
    measured = SPEED in found.metrics
    if json:
        values = run_as_values(found) | {"performance": asdict(speed) if measured else None}
        typer.echo(as_json(values | {"traceback": found.traceback, "events": [to_dict(event) for event in events]}))
    else:
        typer.echo(run_in_full(found, events, told(speed) if measured else ()))


@app.command()
def forecast(
    rows: Annotated[int, typer.Option(min=0, help="The loss with so many rows is told; 0 takes four times the most there are.")] = 0,
    model: Annotated[str, typer.Option(help="Only this model, for example pocket; all if not given.")] = "",
    json: Json = False,
    home: Home = None,
) -> None:
    """Say what more rows would bring, from four runs or more that differ only in data.most_rows; several models are ranked."""
    from workbench.jobs.forecast import as_values, asked, curves, points_table, ranked, ranking_table, told, trained

    with looking(home) as store:
        found = curves(trained(store), model)
    rows = asked(found, rows)
    if json:
        typer.echo(as_json([as_values(curve, rows) for curve in found]))
        return
    for curve in found:
        typer.echo("\n".join([table(points_table(curve)), *told(curve, rows), ""]))
    for own in ranked(found, rows):
        typer.echo(table(ranking_table(own, rows)))


def main() -> None:
    ending_at_once(app)


if __name__ == "__main__":
    main()
