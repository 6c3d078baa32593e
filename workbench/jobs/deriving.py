"""What a recipe keeps, made into something: a data set of its own in the workspace, or a folder for other programs.

What it is not: the writing of an export (`exporting.py`), or an ingest (`ingest.py`), which reads a file.
"""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Progress, Started, Table
from workbench.core.method import shelf
from workbench.core.parts import DataSpec
from workbench.core.words import count
from workbench.core.workspace import Workspace, named
from workbench.jobs.exporting import check, export
from workbench.jobs.steps import Curated, sifted
from workbench.materials import kept
from workbench.materials.corpus import usual
from workbench.materials.models import POCKET
from workbench.materials.rows import Chosen
from workbench.methods.contracts import Selector

BATCH = 2000  # rows written at once, and between two signs of life
RECIPE = "recipe.yaml"


def derive(spec: DataSpec, name: str, workspace: Workspace, model: str = POCKET) -> Iterator[Event]:
    """Do the recipe's steps and keep what they keep as the data set `name`; ends with `Made("data", folder)`.

    The folder appears under its name only when it is whole. The set that it is made from is not touched, and may go: the rows are copied.

    Raises:
        WorkbenchError: the name is taken or cannot be one, a step cannot do its work, or no row is kept.
    """
    target = workspace.data() / named(name)
    if target.exists() and any(target.iterdir()):
        raise WorkbenchError(f"There is a data set {name!r} already. Choose another name, or delete that one first.")
    data = yield from sifted(spec, workspace, model)
    if not data.kept:
        raise WorkbenchError(f"The steps keep no row of {spec.path!r}: nothing is left to keep. Look at what each step drops.")
    yield told(data)
    yield Started(total=len(data.kept), about={"from": spec.path, "name": name})
    folder = Path(tempfile.mkdtemp(prefix=".coming-", dir=workspace.data()))
    try:
        formats = yield from _written(data, folder)
        recipe = spec.to_yaml().encode()
        (folder / kept.ORIGINAL).mkdir()
        (folder / kept.ORIGINAL / RECIPE).write_bytes(recipe)
        kept.write_about(folder, _about(formats, name, recipe))
        if target.exists():
            target.rmdir()
        folder.rename(target)
        yield Made("data", str(target))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def told(data: Curated) -> Table:
    """What each step dropped and changed, and how many rows are left."""
    rows = [[place, step.title, step.dropped, step.changed] for place, step in enumerate(data.steps, 1)]
    return Table("steps", ["step", "title", "dropped", "changed"], [*rows, ["", "kept", len(data.kept), ""]])


def remedies(kinds: Sequence[str]) -> list[str]:
    """Names of the steps that are for these findings (`Issue.kind`), each once."""
    return [name for name, step in shelf("selectors").items() if set(step.mends) & set(kinds)]


def _written(data: Curated, folder: Path) -> Generator[Progress, None, Counter[str]]:
    """How many rows there are of each format."""
    rows, formats = iter(Chosen(data.examples, data.kept)), Counter[str]()
    with kept.Keeper(folder) as keeper:
        while batch := list(islice(rows, BATCH)):
            keeper.write(batch)
            formats.update(row.format for row in batch)
            yield Progress(formats.total(), len(data.kept), "rows written")
    return formats


def _about(formats: Counter[str], name: str, recipe: bytes) -> kept.About:
    return kept.About(
        name=name, format=usual(formats), rows=formats.total(), rejects=0, original=RECIPE, bytes=len(recipe),
        sha256=hashlib.sha256(recipe).hexdigest(), columns={}, made=datetime.now().isoformat(timespec="seconds"),
    )  # fmt: skip


def exported(spec: DataSpec, to: Path, form: str, workspace: Workspace, model: str = POCKET) -> Iterator[Event]:
    """Do the recipe's steps and write what they keep into the folder `to`; see `exporting.export`."""
    check(to, form)
    data = yield from sifted(spec, workspace, model)
    steps = [
        f"{step.title}{_knobs(selector)}: {count(step.dropped, 'row')} dropped, {step.changed:,} changed"
        for step, selector in zip(data.steps, spec.selectors, strict=True)
    ]
    yield from export(Chosen(data.examples, data.kept), len(data.kept), to, form, {"name": spec.path, "steps": steps})


def _knobs(step: Selector) -> str:
    """The knobs that are not at their defaults, in brackets."""
    usual = type(step)().model_dump()
    if step.by_hand:  # what a person rewrote is no business of those who get the export
        return ""
    other = [f"{name.replace('_', ' ')} {value}" for name, value in step.model_dump().items() if value != usual[name]]
    return f" ({', '.join(other)})" if other else ""
