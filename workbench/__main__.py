"""The jobs from a shell: `python -m workbench train SPEC.yaml`, the same runner, store and specs as in the page.

Results go to stdout, progress to stderr, a failure is sentences on stderr and an exit status, never a traceback. Heavy modules
are imported inside the commands that need them, so that listing runs starts at once.
"""

import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Noted, Progress, Table, to_dict
from workbench.core.method import SHELVES, Method, discover
from workbench.core.spec import Spec, parse_spec, read_spec
from workbench.core.workspace import Workspace, default_home
from workbench.runs.failures import sentence
from workbench.runs.live import Live
from workbench.runs.runner import Runner
from workbench.runs.store import InUse, Store
from workbench.runs.text import ProgressLine, as_json, grid, method_as_values, run_as_values, run_in_brief, run_in_full, runs_list, table

STOPPED = 130  # the shell's own status for a program that was interrupted


class PlainGroup(TyperGroup):
    """Commands whose mistakes are told in sentences on stderr."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except WorkbenchError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    name="workbench",
    cls=PlainGroup,
    help="Fine-tune language models from the shell. The same runs as in the page.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Home = Annotated[Path | None, typer.Option("--home", help="The workspace folder; WORKBENCH_HOME or ./workspace if not given.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change one value of the spec; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON; numbers that are not finite become text.")]
SpecFile = Annotated[Path | None, typer.Argument(metavar="SPEC.yaml", help="The spec of the job.")]


@app.command()
def methods(json: Json = False, home: Home = None) -> None:
    """List every method with its paper and its knobs."""
    shelves = _registry()
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
    home: Home = None,
) -> None:
    """Train as a spec says. Ctrl-C stops after the step at work and keeps a checkpoint."""
    if (spec is None) == (not resume):
        raise WorkbenchError("Give either a spec file or --resume RUN, for example: python -m workbench train assets/demos/quickstart.yaml")
    if resume and set:
        raise WorkbenchError("A run is resumed as it is, so --set cannot be used with --resume. Start a new run from its spec instead.")
    _registry()
    _finish(read_spec(spec, set or []) if spec else resume, home, kind="train")


@app.command()
def merge(spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml")], set: Set = None, home: Home = None) -> None:
    """Merge models as a spec says; the merged model appears in the workspace whole or not at all."""
    _registry()
    _finish(read_spec(spec, ["kind=merge", *(set or [])]), home, kind="merge")


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
    json: Json = False,
    home: Home = None,
) -> None:
    """Ask up to four models the same."""
    _registry()
    given = {"kind": "compare", "models": model, "prompt": prompt, "system": system, "seed": seed}
    _finish(parse_spec(given | {"temperature": temperature, "max_tokens": max_tokens}), home, kind="compare", json=json)


@app.command()
def runs(json: Json = False, home: Home = None) -> None:
    """List all runs, newest first."""
    with _looking(home) as store:
        found = store.runs()
    typer.echo(as_json([run_as_values(run) for run in found]) if json else runs_list(found))


@app.command()
def show(run: Annotated[str, typer.Argument(help="The run's number, for example 0001.")], json: Json = False, home: Home = None) -> None:
    """Show everything on record of one run."""
    with _looking(home) as store:
        found = store.run(run.removeprefix("run:"))
        events: list[Event] = [*store.made(found.id), *store.said(found.id), *store.tables(found.id), *store.notes(found.id)]
    if json:
        typer.echo(as_json(run_as_values(found) | {"traceback": found.traceback, "events": [to_dict(event) for event in events]}))
    else:
        typer.echo(run_in_full(found, events))


@app.command()
def data(
    file: Annotated[Path, typer.Argument(help="A JSONL, JSON, CSV, Parquet or text file.")],
    name: Annotated[str, typer.Option(help="What the data set is called; the file's name if not given.")] = "",
    column: Annotated[list[str] | None, typer.Option(metavar="ROLE=COLUMN", help="Where a role is found, for example prompt=q.")] = None,
    home: Home = None,
) -> None:
    """Take a file into the workspace and say what was found in it."""
    _registry()
    from workbench.jobs.curate import ingest

    columns = dict(_pair(text) for text in column or [])
    called = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem).strip("-.") or "data"
    line = ProgressLine()
    try:
        for event in ingest(file, called, _workspace(home), columns):
            _report(event, line)
    except (OSError, MemoryError) as error:
        raise WorkbenchError(sentence(error)) from error
    finally:
        line.end()


def _report(event: Event, line: ProgressLine) -> None:
    """An event of a job without a run: findings on stdout, the way there on stderr."""
    match event:
        case Progress():
            line.show(Live("", "data", "", "running", event.done, event.total, None, {}, event.what))
        case Noted():
            line.say(event.text)
        case Table():
            line.end()
            typer.echo(table(event) + "\n")
        case Made():
            line.end()
            typer.echo(f"{event.what}: {event.path}")
        case Finished() if event.message:
            line.end()
            typer.echo(event.message)


# How a job runs from here.


def _finish(wanted: Spec | str, home: Path | None, kind: str, json: bool = False) -> None:
    """Run a spec, or go on with a run, until it is over; print what came of it."""
    if isinstance(wanted, Spec) and (given := wanted.model_dump(mode="json")["kind"]) != kind:
        raise WorkbenchError(f"This is a {given} spec. Use: python -m workbench {given}")
    from workbench.jobs.registry import JOBS

    workspace = _workspace(home)
    with Store(workspace.database) as store:
        with _terminated_as_interrupted(), Runner(store, workspace, JOBS) as runner:
            run = runner.submit(wanted) if isinstance(wanted, Spec) else runner.resume(store.run(wanted.removeprefix("run:")).id)
            _follow(runner, run)
            found = runner.wait(run)
        for warning in store.warnings:
            typer.echo(warning, err=True)
        if found.status == "failed":
            typer.echo(f"{found.message}\nSee: python -m workbench show {run}{_home_flag(home)}", err=True)
            raise typer.Exit(1)
        typer.echo(_result(store, run, kind, json))
    if found.status == "stopped":
        raise typer.Exit(STOPPED)


def _follow(runner: Runner, run: str) -> None:
    """Show the run's progress until it is over. One Ctrl-C (or SIGTERM) stops it so that it saves, a second one leaves at once."""
    watch, line = runner.watch(run), ProgressLine()
    asked = False
    while True:
        try:
            for event in watch:
                if isinstance(event, Noted):
                    line.say(event.text)
                for live in runner.live():
                    if live.id == run:
                        line.show(live)
            line.end()
            return
        except KeyboardInterrupt:
            if asked:
                os._exit(STOPPED)  # what was measured is written; the thread at work cannot be interrupted otherwise
            asked = True
            line.say("Stopping after the step at work, and keeping a checkpoint. Press Ctrl-C again to leave at once.")
            with suppress(WorkbenchError):  # it was over already
                runner.stop(run)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """`kill PID`, and what a cluster sends at the end of its time, count as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _result(store: Store, run: str, kind: str, json: bool) -> str:
    """What a run leaves for stdout: answers of a comparison, else numbers and artifacts."""
    if kind != "compare":
        return run_in_brief(store.run(run), store.made(run))
    asked = store.run(run).spec["models"]
    said = sorted(store.said(run), key=lambda one: asked.index(one.speaker) if one.speaker in asked else len(asked))
    if json:
        return as_json({"run": run, "answers": [{"model": one.speaker, "answer": one.answer, "tokens": one.tokens} for one in said]})
    return "\n\n".join(f"{one.speaker}\n{one.answer}" for one in said)


@contextmanager
def _looking(home: Path | None) -> Iterator[Store]:
    """The runs to read: the database itself, or a copy of it while the page has it open."""
    path = _workspace(home).database
    try:
        store = Store(path)
    except InUse:
        store = Store(path, copy=True)
    with store:
        for warning in store.warnings:
            typer.echo(warning, err=True)
        yield store


def _workspace(home: Path | None) -> Workspace:
    return Workspace(home or default_home())


def _home_flag(home: Path | None) -> str:
    return f" --home {home}" if home else ""


def _registry() -> dict[str, dict[str, type[Method]]]:
    """Every method by shelf and name. A checkout that is not installed finds its kernels beside it."""
    kernels = Path(__file__).parents[1] / "kernels"
    if kernels.is_dir() and str(kernels) not in sys.path:
        sys.path.append(str(kernels))
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # about the libraries' own insides
    discover()
    return SHELVES


def _pair(text: str) -> tuple[str, str]:
    role, equals, column = text.partition("=")
    if not (role and equals and column):
        raise WorkbenchError(f"--column {text!r} is not of the form ROLE=COLUMN, for example --column prompt=question.")
    return role, column


if __name__ == "__main__":
    app()
