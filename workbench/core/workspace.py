"""Where everything a person makes lies: one folder in plain formats, beside the database.

    HOME/workbench.duckdb      runs, metrics, samples
    HOME/runs/0001/            one folder a run: spec.yaml, checkpoint/, adapter/ or model/, tables
    HOME/data/NAME/            one folder a data set: the original, rows.parquet, rejects.parquet, about.yaml
    HOME/models/NAME/          merged models, and any model folder a person puts there
    HOME/queries/NAME.sql      statements about the runs that somebody kept
    HOME/cache/                what was counted and can be counted again; may be deleted at any time

Nothing is read from or written to outside it, save the demo assets that ship with the program. Knows paths, not contents.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from workbench.core.errors import WorkbenchError

ASSETS = Path(__file__).parents[2] / "assets"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def default_home() -> Path:
    return Path(os.environ.get("WORKBENCH_HOME", "workspace"))


@dataclass(frozen=True)
class Workspace:
    """The folders of one home; they are made when first asked for."""

    home: Path

    @property
    def database(self) -> Path:
        return self._folder() / "workbench.duckdb"

    def run(self, run_id: str) -> Path:
        return self._folder("runs", named(run_id))

    def run_folders(self) -> list[Path]:
        return [folder for folder in self._folder("runs").iterdir() if folder.is_dir()]

    def data(self, name: str = "") -> Path:
        return self._folder("data", named(name)) if name else self._folder("data")

    def model(self, name: str = "") -> Path:
        """The folder a merged model goes to; it is not made here, because only whole models may appear in it."""
        return self._folder("models") / named(name) if name else self._folder("models")

    def query(self, name: str = "") -> Path:
        return self._folder("queries") / f"{named(name)}.sql" if name else self._folder("queries")

    def cache(self, kind: str) -> Path:
        return self._folder("cache", kind)

    def _folder(self, *parts: str) -> Path:
        folder = self.home.resolve().joinpath(*parts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkbenchError(
                f"The workspace folder {folder} cannot be made ({error.strerror}). Choose another with --home DIR or WORKBENCH_HOME."
            ) from error
        return folder


def named(name: str) -> str:
    """`name` if it can name a folder here; a name with a path in it is refused."""
    if not NAME.fullmatch(name) or ".." in name:
        raise WorkbenchError(
            f"{name!r} cannot be a name here: use letters, digits, '-', '_' and '.', begin with a letter or digit, at most 64 characters."
        )
    return name
