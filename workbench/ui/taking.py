"""What can be fetched as a file: what a run made, with how to load it; all runs with their settings; what runs measured, step by step; the
answer to a statement.

Routes that only read, behind the same checks as the page (`server.py`). Nothing is written beforehand: a folder is packed while it is sent,
so a model of many gigabytes takes neither memory nor disk. What it is not: a way to any other file; a run is named by its number, and what
is sent of it is what its record says that it made. Tag: [M] measured.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode
from zipfile import ZipFile, ZipInfo

import yaml
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from workbench.core.errors import WorkbenchError
from workbench.core.events import Made
from workbench.runs.query import csv_lines
from workbench.runs.records import Run
from workbench.runs.store import Store
from workbench.ui.cards import escaped
from workbench.ui.context import Context
from workbench.ui.differing import settings
from workbench.ui.words import run_label

PATH = "/take"
ANSWER = f"{PATH}/answer.csv"
CHUNK = 1 << 20  # bytes read at once
LINES = 1_000  # sent at once: each piece is a wait for another thread, 0.7 ms on a busy machine [M]
EVERY = 2**40  # points of a line: all of them
SENT = ("adapter", "model")  # of what a run made, what one takes elsewhere
BLANK = "[More Information Needed]"
ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {base!r}
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), {folder!r})
tokenizer = AutoTokenizer.from_pretrained(base)
"""
MODEL = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
"""


def routes(ctx: Context) -> list[Route]:
    """Where the page's links lead."""

    async def run(request: Request) -> Response:
        return await run_in_threadpool(sent, ctx.store, request.path_params["run"])

    async def table(_: Request) -> Response:
        return attached(await run_in_threadpool(lambda: as_csv(runs_rows(ctx.store.runs()))), "runs.csv", "text/csv")

    async def curves(request: Request) -> Response:
        return attached(gathered(curve_lines(ctx.store, request.query_params.getlist("run"))), "curves.csv", "text/csv")

    async def answer(request: Request) -> Response:  # posted, so that no other site's page can ask, and a long statement has room
        statement = parse_qs((await request.body()).decode("utf-8", "replace")).get("statement", [""])[0]
        return await run_in_threadpool(answered, ctx.store, statement)

    reads = [Route(f"{PATH}/{{run}}.zip", run), Route(f"{PATH}/runs.csv", table), Route(f"{PATH}/curves.csv", curves)]
    return [*reads, Route(ANSWER, answer, methods=["POST"])]


def link(path: str, words: str) -> str:
    """A link that fetches a file and leaves the page as it is."""
    return f'<a class="take" href="{escaped(path)}" download>{escaped(words)}</a>'


def run_path(run: str) -> str:
    return f"{PATH}/{run}.zip"


def curves_path(runs: Sequence[str]) -> str:
    return f"{PATH}/curves.csv?{urlencode([('run', run) for run in runs])}"


def attached(body: Iterable[bytes] | Iterable[str], name: str, kind: str) -> Response:
    return StreamingResponse(body, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def answered(store: Store, statement: str) -> Response:
    """All rows of an answer, worked out as they are sent; or what is wrong with the statement."""
    lines = csv_lines(store, statement)
    try:
        first = next(lines)
    except WorkbenchError as error:
        return PlainTextResponse(str(error), status_code=400)
    return attached(gathered(chain([first], lines)), "answer.csv", "text/csv")


# What a run made.


def newest(made: Sequence[Made]) -> Made | None:
    """What one would take of all that a run made: its adapter or its model, as it was written last."""
    return next((thing for thing in reversed(made) if thing.what in SENT and Path(thing.path).is_dir()), None)


def sent(store: Store, run: str) -> Response:
    """The folder of what a run made as one file, with how to load it; or why there is none."""
    try:
        own = store.run(run)
    except WorkbenchError as error:
        return PlainTextResponse(str(error), status_code=404)
    found = newest(store.made(own.id))
    if found is None:
        return PlainTextResponse(f"Run {run} has made nothing that lies on disk. Let it run until it saves.", status_code=404)
    name = f"run-{own.id}-{found.what}"
    return attached(packed(Path(found.path), name, card(own, found, name)), f"{name}.zip", "application/zip")


def card(run: Run, made: Made, folder: str) -> str:
    """The README of what is taken home: how to load it, and how it was made. A card that somebody has written stays as it is; of one that
    peft leaves for others to fill in only the head stays, which the hub reads."""
    path = Path(made.path) / "README.md"
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    if written and BLANK not in written:
        return written
    head = f"---{written.split('---')[1]}---\n\n" if written.startswith("---") else ""
    spec = yaml.safe_dump(run.spec, sort_keys=False, allow_unicode=True, width=100)
    return (
        f"{head}# {run_label(run.id, run.name)}\n\nHow to load it in Python:\n\n```python\n{loading(made, folder)}```\n\n"
        f"How it was made: step {run.step} of Finetune Workbench with the spec\n\n```yaml\n{spec}```\n"
    )


def loading(made: Made, folder: str) -> str:
    """The lines of Python that load what was made from `folder`."""
    return MODEL.format(folder=folder) if made.what == "model" else ADAPTER.format(folder=folder, base=base_of(Path(made.path)))


def base_of(adapter: Path) -> str:
    """What the adapter was trained on, as its own configuration says."""
    try:
        return str(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError):  # not written by peft's rules, or damaged: the person knows
        return "the base model"


class Pipe(io.RawIOBase):
    """Takes what is written until it is asked for; a zip file is told that it cannot go back in it."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def drain(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held


def packed(folder: Path, name: str, readme: str) -> Iterator[bytes]:
    """The files of a folder as a zip file, piece by piece, under `name` and with this README. Weights do not get smaller, so nothing is
    compressed."""
    pipe = Pipe()
    with ZipFile(pipe, "w") as archive:  # type: ignore[arg-type]
        archive.writestr(f"{name}/README.md", readme)
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "README.md"):
            about = ZipInfo.from_file(path, f"{name}/{path.relative_to(folder)}")
            with path.open("rb") as source, archive.open(about, "w", force_zip64=True) as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    yield pipe.drain()
    yield pipe.drain()


# Numbers.


def as_csv(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Rows as CSV, line by line."""
    line = io.StringIO()
    writer = csv.writer(line)
    for row in rows:
        writer.writerow(row)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def gathered(lines: Iterable[str]) -> Iterator[str]:
    """Lines in pieces of many."""
    every = iter(lines)
    while piece := "".join(islice(every, LINES)):
        yield piece


def runs_rows(runs: Sequence[Run]) -> Iterator[list[Any]]:
    """A row for each run: what it is, the first and last value of each measure, each setting; a column that a run has not is empty."""
    held = [_all_of(run) for run in runs]
    columns = list(dict.fromkeys(name for own in held for name in own))
    yield columns
    yield from ([own.get(name, "") for name in columns] for own in held)


def _all_of(run: Run) -> dict[str, Any]:
    own = {"run": run.id, "name": run.name, "kind": run.kind, "status": run.status, "step": run.step, "steps in all": run.total}
    own |= {"made": run.created, "began": run.started, "ended": run.ended}
    for metric, (first, last) in run.metrics.items():
        own |= {f"first {metric}": first, f"last {metric}": last}
    return own | {f"spec.{name}": value for name, value in settings(run.spec).items()}


def curve_lines(store: Store, runs: Sequence[str]) -> Iterator[str]:
    """Every number that these runs measured: run, name, measure, step, value. One that was deleted meanwhile is left out."""
    yield from as_csv([["run", "name", "measure", "step", "value"]])
    for run in runs:
        try:
            own, names = store.run(run), store.names(run)
        except WorkbenchError:
            continue
        for measure in names:
            steps, values = store.series(run, measure, points=EVERY)
            yield from as_csv([own.id, own.name, measure, step, value] for step, value in zip(steps, values, strict=True))
