"""The runs asked from a shell: `python -m workbench query "SELECT …"`, the same tables, limits and mistakes as in the page.

The answer goes to stdout, how many rows there are to stderr. Not here: what may be asked (`runs/query.py`, `runs/views.py`).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from workbench.core.errors import WorkbenchError
from workbench.runs.text import cell, grid
from workbench.shell import looking

SHOWN = 1_000  # rows of a table on the screen
WIDE = 60  # characters of a cell there


def query(
    statement: Annotated[str, typer.Argument(help="One SELECT; without one it is said what can be asked.")] = "",
    file: Annotated[Path | None, typer.Option(help="Read the statement from this file.")] = None,
    csv: Annotated[str, typer.Option(metavar="FILE", help="Write all rows as CSV; - writes them to stdout.")] = "",
    home: Annotated[Path | None, typer.Option("--home", help="The workspace folder; WORKBENCH_HOME or ./workspace if not given.")] = None,
) -> None:
    """Ask all runs a question in SQL; nothing is changed by it. Without a question: say which tables there are."""
    from workbench.runs.query import LONG, Question, csv_lines

    if statement and file:
        raise WorkbenchError("Give either a statement or --file FILE, not both.")
    asked = _read(file) if file else statement
    if not asked:
        typer.echo(_what_can_be_asked())
        return
    with looking(home) as store:
        if csv:
            _write(csv_lines(store, asked), csv)
            return
        answer = Question(asked, LONG).answer(store, SHOWN)
    rows = [[_short(value) for value in row] for row in answer.rows]
    if [column.name for column in answer.columns] == ["explain_key", "explain_value"]:
        typer.echo("\n".join(str(plan) for _, plan in answer.rows))
        return
    typer.echo(grid(rows, [_short(column.name) for column in answer.columns]))
    more = f"The first {SHOWN:,} rows; --csv FILE writes all" if answer.more else f"{len(rows):,} row{'s' * (len(rows) != 1)}"
    typer.echo(f"{more} ({answer.seconds:.2f} s).", err=True)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(f"{file} cannot be read as text ({error}). Name a file that holds one statement.") from error


def _write(lines: Iterator[str], target: str) -> None:
    """To a file, which appears whole or not at all, or to stdout."""
    if target == "-":
        sys.stdout.writelines(lines)  # typer's own way leaves out what looks like a colour
        return
    path = Path(target)
    part = path.with_name(f"{path.name}.part")
    first = next(lines)
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            out.write(first)
            rows = sum(1 for line in lines if out.write(line))
        part.replace(path)
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be written ({error.strerror}). Choose another file.") from error
    finally:
        part.unlink(missing_ok=True)
    typer.echo(f"{rows:,} row{'s' * (rows != 1)} in {path}", err=True)


def _short(value: object) -> str:
    """A cell on one line, without what would move a terminal's cursor."""
    from workbench.runs.query import flat

    text = "".join(sign if sign.isprintable() else " " for sign in cell(flat(value)))
    return text if len(text) <= WIDE else f"{text[: WIDE - 1]}…"


def _what_can_be_asked() -> str:
    from workbench.runs.views import VIEWS

    wide = max(len(column.name) for view in VIEWS.values() for column in view.columns)
    parts = []
    for view in VIEWS.values():
        columns = [f"  {column.name:<{wide}}  {column.says}" for column in view.columns]
        parts.append("\n".join([f"{view.name}: {view.says}", *columns]))
    return "\n\n".join([*parts, 'For example: python -m workbench query "SELECT run, lr, loss FROM runs ORDER BY loss LIMIT 10"'])
