"""Statements that somebody kept under a name: one file each in the workspace, `queries/NAME.sql`, which any editor opens.

Knows no database: a statement with a mistake in it can be kept, and mended another day.
"""

from workbench.core.errors import WorkbenchError
from workbench.core.workspace import NAME, Workspace


def kept(workspace: Workspace) -> dict[str, str]:
    """The statements by name, in the order of the names."""
    files = sorted(path for path in workspace.query().glob("*.sql") if NAME.fullmatch(path.stem) and path.is_file())
    return {path.stem: path.read_text(encoding="utf-8", errors="replace") for path in files}


def keep(workspace: Workspace, name: str, statement: str) -> str:
    """Keep a statement, in place of what had its name; the name it has."""
    if not statement.strip():
        raise WorkbenchError("There is no statement to keep. Write one first.")
    name = name.strip().replace(" ", "-")
    if not name:
        raise WorkbenchError("The statement has no name. Give it one, for example best-runs.")
    path = workspace.query(name)
    whole = path.with_suffix(".part")
    whole.write_text(statement.rstrip() + "\n", encoding="utf-8")
    whole.replace(path)
    return name


def forget(workspace: Workspace, name: str) -> None:
    workspace.query(name).unlink(missing_ok=True)
