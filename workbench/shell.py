"""How a job runs from a shell: the same runner and store as in the page, followed until it is over. No command by name."""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

import typer

from workbench.core.asking import FINDING
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Noted, Progress, Table, to_dict
from workbench.core.imports import that_stay
from workbench.core.method import SHELVES, Method, discover
from workbench.core.parts import Spec
from workbench.core.workspace import Workspace, default_home
from workbench.runs.failures import sentence
from workbench.runs.live import Live
from workbench.runs.runner import Runner
from workbench.runs.store import InUse, Store
from workbench.runs.text import ProgressLine, as_json, run_in_brief, table

STOPPED = 130  # the shell's own status for a program that was interrupted
Value = TypeVar("Value")


def finish(wanted: Spec | str, home: Path | None, kind: str, json: bool = False) -> None:
    """Run a spec, or go on with a run, until it is over; print what came of it."""
    if isinstance(wanted, Spec) and (given := wanted.model_dump(mode="json")["kind"]) != kind:
        raise WorkbenchError(f"This is a {given} spec. Use: python -m workbench {given}")
    from workbench.jobs.registry import JOBS

    workspace = workspace_of(home)
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
    """What a run leaves for stdout: answers of a comparison, tables of what was found, else numbers and artifacts."""
    if kind in FINDING:
        tables, says = store.tables(run), [note.text for note in store.notes(run)]
        if json:
            return as_json({"run": run, "says": says, "tables": [to_dict(table) for table in tables]})
        return "\n\n".join(["\n".join(says), *(table(one) for one in tables)])
    if kind != "compare":
        return run_in_brief(store.run(run), store.made(run))
    asked = store.run(run).spec["models"]
    said = sorted(store.said(run), key=lambda one: asked.index(one.speaker) if one.speaker in asked else len(asked))
    if json:
        return as_json({"run": run, "answers": [{"model": one.speaker, "answer": one.answer, "tokens": one.tokens} for one in said]})
    return "\n\n".join(f"{one.speaker}\n{one.answer}" for one in said)


def report(event: Event, line: ProgressLine) -> None:
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


def drained(work: Generator[Progress, None, Value], kind: str) -> Value:
    """The result of work without a run, the way there on stderr. Ctrl-C or SIGTERM ends it after the step at work."""
    quiet()
    line = ProgressLine()
    try:
        with _terminated_as_interrupted():
            while True:
                said = next(work)
                line.show(Live("", kind, "", "running", said.done, said.total, None, {}, said.what))
    except StopIteration as end:
        return end.value
    except KeyboardInterrupt:
        line.say("Stopped. Nothing of it was kept.")
        raise typer.Exit(STOPPED) from None
    except (OSError, MemoryError) as error:
        raise WorkbenchError(sentence(error)) from error
    finally:
        work.close()
        line.end()


@contextmanager
def looking(home: Path | None) -> Iterator[Store]:
    """The runs to read: the database itself, or a copy of it while the page has it open."""
    path = workspace_of(home).database
    try:
        store = Store(path)
    except InUse:
        store = Store(path, copy=True)
    with store:
        for warning in store.warnings:
            typer.echo(warning, err=True)
        yield store


def workspace_of(home: Path | None) -> Workspace:
    return Workspace(home or default_home())


def _home_flag(home: Path | None) -> str:
    return f" --home {home}" if home else ""


def registry(shelf: str = "") -> dict[str, dict[str, type[Method]]]:
    """Every method by shelf and name, or those of one shelf alone, which is quicker. A checkout that is not installed finds its kernels
    beside it."""
    kernels = Path(__file__).parents[1] / "kernels"
    if kernels.is_dir() and str(kernels) not in sys.path:
        sys.path.append(str(kernels))
    quiet()
    with that_stay() if "torch" not in sys.modules else nullcontext():
        discover(f"workbench.methods.{shelf}" if shelf else "workbench.methods")
    return SHELVES


def quiet() -> None:
    """Nothing is said of the libraries' own insides."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def with_groups(app: typer.Typer, *commands: Callable[..., None], **groups: typer.Typer) -> typer.Typer:
    """The commands with further ones, called as their functions are, or under a name: `app NAME COMMAND`."""
    for command in commands:
        app.command()(command)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app
