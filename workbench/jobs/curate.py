"""Data sets as a job and as a page: bring a file in, look at what a recipe makes of it, read its rows.

What it is: `ingest` (long work, yields events), `look` and `page` (quick questions of the Data tab, plain values back).
What it is not: it reads no format, renders no template and knows no selector by name; `recipe.py` does the counting.
"""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Progress, Started, Table
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace, named
from workbench.jobs.findings import Issue, findings
from workbench.jobs.recipe import Curated, Step, curated, measured
from workbench.materials import kept, models
from workbench.materials.corpus import DataChoice, available, no_row, usual
from workbench.materials.formats import read
from workbench.materials.readers import files_of
from workbench.materials.rows import Example, Reject
from workbench.materials.templates import pieces

BATCH = 2000  # rows written at once, and between two signs of life
CHUNK = 8 << 20  # bytes copied at once
SHOWN = 500  # rows of a table of rejects or dropped rows
Show = str  # "all", "kept", "dropped", "nothing to learn", or the kind of a finding


# Bringing a file in.


def ingest(path: Path, name: str, workspace: Workspace, columns: Mapping[str, str] = {}) -> Iterator[Event]:
    """Copy the file into the workspace and read it there; ends with `Made("data", folder)`.

    The folder appears under its name only when it is whole; a stop, an error or a kill leaves nothing under that name.
    The original is copied, never touched.

    Raises:
        WorkbenchError: the name is taken or cannot be one, the file cannot be read, or no row of it can be learnt from.
    """
    target = workspace.data() / named(name)
    if target.exists() and any(target.iterdir()):
        raise WorkbenchError(f"There is a data set {name!r} already. Choose another name, or delete that one first.")
    next(read(path, columns))  # a file that cannot be read is refused before it is copied
    folder = Path(tempfile.mkdtemp(prefix=".coming-", dir=workspace.data()))
    try:
        yield Started(total=sum(file.stat().st_size for file in files_of(path)), about={"file": str(path), "name": name})
        copy = folder / kept.ORIGINAL / path.name
        lines, digest = yield from _copy(path, copy)
        formats, rejects = yield from _keep(copy, folder, columns, lines)
        if not formats:
            raise WorkbenchError(no_row(path.name, rejects))
        about = kept.About(
            name=name,
            format=usual(formats),
            rows=sum(formats.values()),
            rejects=len(rejects),
            original=path.name,
            bytes=sum(file.stat().st_size for file in files_of(copy)),
            sha256=digest,
            columns=dict(columns),
            made=datetime.now().isoformat(timespec="seconds"),
        )
        kept.write_about(folder, about)
        if target.exists():
            target.rmdir()
        folder.rename(target)
        yield rejects_table(rejects)
        yield Made("data", str(target))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(path: Path, copy: Path) -> Generator[Progress, None, tuple[int, str]]:
    """Copies, and returns the number of line ends and the SHA-256, of a folder's files one after another."""
    files, done, lines, digest = files_of(path), 0, 0, hashlib.sha256()
    try:
        size = sum(file.stat().st_size for file in files)
        for file in files:
            to = copy if file == path else copy / file.name
            to.parent.mkdir(exist_ok=True, parents=True)
            with file.open("rb") as source, to.open("wb") as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    digest.update(chunk)
                    done, lines = done + len(chunk), lines + chunk.count(b"\n")
                    yield Progress(done, size, "bytes copied")
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be copied into the workspace: {error.strerror}. Check the disk and the rights.") from error
    return lines, digest.hexdigest()


def _keep(copy: Path, folder: Path, columns: Mapping[str, str], lines: int) -> Generator[Progress, None, tuple[Counter[str], list[Reject]]]:
    """Writes the rows, and returns how many there are of each format and all rejects."""
    formats, rejects = Counter[str](), list[Reject]()
    rows = read(copy, columns)
    with kept.Keeper(folder) as keeper:
        while batch := list(islice(rows, BATCH)):
            keeper.write(batch)
            formats.update(row.format for row in batch if isinstance(row, Example))
            rejects += [row for row in batch if isinstance(row, Reject)]
            yield Progress(batch[-1].line, max(lines, batch[-1].line), "lines read")
    return formats, rejects


# Looking at a recipe.


@dataclass(frozen=True)
class Look:
    """What the page shows of a data set under a recipe. Row numbers count the readable rows of the file from 1.

    Tokens are counted on the first `recipe.MEASURED` kept rows (`sampled` says that there are more): `lengths` holds the
    tokens of each before the cut, `learnt` those learnt after it; `tokens`, `trained` and `cut` are the sums of what the
    model reads, what it learns and what is cut off. `nothing` are the rows without a token to learn, `unfinished` those cut
    in the middle of an answer, `endless` those whose whole answer has no end that is learnt, `shortened` those cut behind one.
    """

    name: str
    format: str
    formats: dict[str, int]
    rows: int
    kept: int
    rejected: int
    steps: list[Step]
    measured: int
    sampled: bool
    lengths: list[int]
    learnt: list[int]
    tokens: int
    trained: int
    cut: int
    nothing: list[int]
    unfinished: list[int]
    endless: list[int]
    shortened: list[int]
    issues: list[Issue]
    rejects: Table
    dropped: Table

    @property
    def share_trained(self) -> float:
        """Learnt tokens as a share of all tokens that the model reads."""
        return self.trained / self.tokens if self.tokens else 0.0


def data_sets(workspace: Workspace) -> list[DataChoice]:
    """Every data set that can be chosen by name."""
    return available(workspace)


def tokenizer_of(model: str, workspace: Workspace) -> PreTrainedTokenizerBase:
    """The tokenizer of a model by reference, for `look` and `page`."""
    return models.tokenizer(models.resolve(model, workspace))


def look(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace) -> Look:
    """All that the page needs of a data set under a recipe; answers from memory while neither file nor recipe change.

    Raises:
        WorkbenchError: the data set is missing or unreadable, or the tokenizer cannot be used.
    """
    data = curated(spec, workspace)
    found = measured(spec, tokenizer, workspace)
    return Look(
        name=spec.path,
        format=data.corpus.format,
        formats=dict(Counter(data.corpus.formats).most_common()),
        rows=len(data.corpus.examples),
        kept=len(data.kept),
        rejected=len(data.corpus.rejects),
        steps=data.steps,
        measured=len(found.rows),
        sampled=len(found.rows) < len(data.kept),
        lengths=found.lengths,
        learnt=found.learnt,
        tokens=sum(found.lengths) - sum(found.cut),
        trained=sum(found.learnt),
        cut=sum(found.cut),
        nothing=[row + 1 for row in found.nothing],
        unfinished=[row + 1 for row in found.unfinished],
        endless=[row + 1 for row in found.endless],
        shortened=[row + 1 for row in found.shortened],
        issues=findings(spec, tokenizer, workspace),
        rejects=rejects_table(data.corpus.rejects),
        dropped=_dropped_table(data),
    )


def rejects_table(rejects: list[Reject]) -> Table:
    """The first rejects with place, reason and remedy."""
    rows = [[reject.line, reject.column, reject.reason, reject.remedy, reject.excerpt] for reject in rejects[:SHOWN]]
    return Table("rejects", ["line", "column", "reason", "what to do", "begins with"], rows)


def _dropped_table(data: Curated) -> Table:
    rows = []
    for index in sorted(data.dropped)[:SHOWN]:
        step, reason = data.dropped[index]
        rows.append([index + 1, data.corpus.examples[index].line, step, reason, data.corpus.examples[index].as_text()[:200]])
    return Table("dropped", ["row", "line", "step", "reason", "begins with"], rows)


# Reading rows.


@dataclass(frozen=True)
class Row:
    """One row for the table and the bubbles; `number` counts the readable rows of the file from 1.

    `turns` are (role, content); a plain text is one turn of the role "text". `pieces` are (text, "trained" | "masked" |
    "cut") in order. `dropped` says why a selection step dropped it, `problem` why the template refuses it; else empty.
    """

    number: int
    source: str
    line: int
    format: str
    turns: list[tuple[str, str]]
    pieces: list[tuple[str, str]]
    trained: int
    cut: int
    dropped: str
    problem: str


@dataclass(frozen=True)
class Page:
    """`rows` of `total` from `offset`; after a search `total` counts what was found."""

    total: int
    offset: int
    rows: list[Row]


def page(
    spec: DataSpec,
    tokenizer: PreTrainedTokenizerBase,
    workspace: Workspace,
    offset: int = 0,
    limit: int = 20,
    show: Show = "kept",
    find: str = "",
) -> Page:
    """`limit` rows from `offset` on of those that are `show`n and hold `find` (in any case), with their mask.

    "nothing to learn" looks among the measured rows alone, as `Look.nothing` does; of a finding those rows are shown that it names.
    """
    data = curated(spec, workspace)
    if show in ("all", "kept", "dropped"):
        chosen: Sequence[int] = {"all": range(len(data.corpus.examples)), "kept": data.kept, "dropped": sorted(data.dropped)}[show]
    elif show == "nothing to learn":
        chosen = measured(spec, tokenizer, workspace).nothing
    else:
        chosen = [row - 1 for issue in findings(spec, tokenizer, workspace) if issue.kind == show for row in issue.rows]
    if find:
        chosen = [index for index in chosen if find.casefold() in data.corpus.examples[index].as_text().casefold()]
    shown = chosen[max(0, offset) : max(0, offset) + limit]
    return Page(len(chosen), max(0, offset), [_row(spec, tokenizer, data, index) for index in shown])


def _row(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, data: Curated, index: int) -> Row:
    example, problem, tokens = data.corpus.examples[index], "", list[tuple[str, str]]()
    try:
        tokens = [(text, str(state)) for text, state in pieces(tokenizer, example, spec.train_on, spec.max_length)]
    except WorkbenchError as error:
        problem = str(error)
    states = Counter(state for _, state in tokens)
    return Row(
        number=index + 1,
        source=example.source,
        line=example.line,
        format=example.format,
        turns=[(message["role"], _said(message)) for message in example.messages] or [("text", example.text)],
        pieces=tokens,
        trained=states["trained"],
        cut=states["cut"],
        dropped=": ".join(data.dropped[index]) if index in data.dropped else "",
        problem=problem,
    )


def _said(message: Mapping[str, Any]) -> str:
    calls = [str(call.get("function", call)) for call in message.get("tool_calls", []) if isinstance(call, dict)]
    return "\n".join(part for part in (message["content"], *calls) if part)
