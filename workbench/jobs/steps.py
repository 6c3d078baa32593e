"""The selection steps of a data recipe at work: what each keeps, drops and changes, in memory while nothing changes and on the disk where
it took long.

What it is: `sifted` (yields progress) and `at_hand` (answers at once or not at all), for the page, the training loop and the command line
alike; `estimate` says how long it would take before it is begun. What it is not: it counts no token and knows no selector by name.
"""

import hashlib
import json
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.memory import Memory
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.materials import flags, models
from workbench.materials.around import Around, state_of
from workbench.materials.corpus import Corpus, load, path_of, sides
from workbench.materials.near import joined
from workbench.materials.rows import Changed, Chosen, Example, Selection
from workbench.methods.contracts import Selector

VERSION = 1  # of what steps answer: to be raised when one answers otherwise, because answers are kept on the disk
BINS = 40  # bars of a histogram
WORTH = 1.0  # seconds that a step must have taken for its answer to be kept on the disk
HELD = 16  # recipes whose answers are held in memory
SHOWN, BEGINS = 4, 160  # rows on each side of a line, and how many characters of each
TRIED = 8  # rows that are read for an estimate
PLAIN = 1.5e-4  # seconds a row of a step that asks no model: those of the slowest one, near duplicates
LONG = 5.0  # estimated seconds beyond which a person is asked first


@dataclass(frozen=True)
class Near:
    """A row by its number from 1, the number that a step goes by, and how the row begins."""

    row: int
    score: float
    text: str


@dataclass(frozen=True)
class Scores:
    """The numbers that a step goes by: how many of those that stay and of those that go lie between each two `edges`.

    `last` are rows that stay and `first` rows that go, those nearest to a line at the top; none where there is no line.
    """

    what: str
    edges: list[float]
    kept: list[int]
    dropped: list[int]
    cuts: tuple[float, ...]
    last: Sequence[Near] = ()
    first: Sequence[Near] = ()


@dataclass(frozen=True)
class Step:
    """What one selection step dropped and changed, and the numbers that it went by, if it did: counted in `scores`, and as (N,) float32
    `numbers` of all N rows, NaN for those that an earlier step had dropped."""

    title: str
    dropped: int
    scores: Scores | None = None
    changed: int = 0
    numbers: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False)  # one stands for itself: what is counted of it is remembered by it
class Curated:
    """A data set after its selection steps: the rows as they are then, indices of the kept ones, and of each dropped one the step and the
    reason. `corpus` has them as they were. `groups` has a number for each row: rows of one number must not be parted; empty if none must.
    """

    corpus: Corpus
    examples: Sequence[Example]
    kept: list[int]
    dropped: dict[int, tuple[str, str]]
    steps: list[Step]
    groups: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


_held = Memory[Curated](HELD)
_paces = Memory[float](16)


def sifted(spec: DataSpec, workspace: Workspace, model: str = models.POCKET) -> Generator[Progress, None, Curated]:
    """The rows that the recipe's steps keep; `model` is the reference of the one that is trained.

    Raises:
        WorkbenchError: the data set is missing or unreadable, or a step cannot do its work.
    """
    if (there := at_hand(spec, workspace, model)) is not None:
        return there
    key, files = _key(spec, workspace, model), _keys(spec, workspace, model)  # before the file is read: it may change meanwhile
    corpus = load(spec.path, workspace, spec.columns)
    return _held.put(key, (yield from select(corpus, spec.selectors, Around(workspace, model), files)))


def at_hand(spec: DataSpec, workspace: Workspace, model: str = models.POCKET) -> Curated | None:
    """What `sifted` would return, if it is in memory."""
    return _held.get(_key(spec, workspace, model))


def estimate(spec: DataSpec, workspace: Workspace, model: str = models.POCKET) -> float:
    """About how many seconds the recipe's steps will take; 0 where all is at hand."""
    return sum(seconds for _, seconds in estimates(spec, workspace, model))


def estimates(spec: DataSpec, workspace: Workspace, model: str = models.POCKET) -> list[tuple[str, float]]:
    """The steps that must be done, each by its title and about how many seconds it will take; a model's pace is tried on a few rows.

    Every row is counted that reaches a step as far as the steps before it say how many stay, and those that were read before and are not
    read again.
    """
    if at_hand(spec, workspace, model) is not None:
        return []
    examples, around, found = load(spec.path, workspace, spec.columns).examples, Around(workspace, model), list[tuple[str, float]]()
    rows = len(examples)
    for selector, file in zip(spec.selectors, _keys(spec, workspace, model), strict=True):
        if selector.skip:
            continue
        if not file.exists():
            reader, others = selector.reader(), sum(len(around.rows(name, selector.title())) for name in selector.others())
            read = 0 if reader is None else selector.seen(rows) + others
            seconds = read * selector.passes * _pace(reader or model, examples, around) if read else 0.0
            found.append((selector.title(), (rows + others - read) * PLAIN + seconds))
        rows = selector.left(rows)
    return found


def _pace(reader: str, examples: Sequence[Example], around: Around) -> float:
    """Seconds a row; tried once for each model."""
    found = _paces.get(reader)
    return _paces.put(reader, around.pace(examples[:TRIED], reader)) if found is None else found


def select(corpus: Corpus, selectors: Sequence[Selector], around: Around, files: Sequence[Path]) -> Generator[Progress, None, Curated]:
    """The steps in order, each on what the one before kept; `files` are where the answer of each is kept if it took long."""
    rows: Sequence[Example] = corpus.examples
    indices, dropped, steps, pairs = list(range(len(rows))), dict[int, tuple[str, str]](), list[Step](), list[Tensor]()
    for selector, file in zip(selectors, files, strict=True):
        if selector.skip:
            steps.append(Step(selector.title(), 0))
            continue
        selection = yield from _answer(selector, Chosen(rows, indices), around, file)
        out = {indices[place]: (selector.title(), reason) for place, reason in selection.reasons.items()}
        dropped |= out
        scores = scored(selection, rows, indices)
        steps.append(Step(selector.title(), len(out), scores, len(selection.changed), _spread_out(selection, indices, len(rows), scores)))
        if selection.changed:
            rows = Changed(rows, {indices[place]: example for place, example in selection.changed.items()})
        if len(selection.groups):
            pairs.append(torch.tensor(indices)[torch.stack([torch.tensor(selection.groups), torch.arange(len(indices))], 1)])
        indices = [index for index, stays in zip(indices, selection.kept, strict=True) if stays]
    groups = joined(len(rows), torch.cat(pairs)) if pairs else torch.empty(0, dtype=torch.int64)
    return Curated(corpus, rows, indices, dropped, steps, groups)


def parted(found: Curated, share: float, seed: int) -> Generator[Progress, None, tuple[Chosen, Chosen]]:
    """The kept rows as (train, validation): `corpus.sides`, with what the steps found to belong together on one side."""
    rows = Chosen(found.examples, found.kept)
    train, validation = yield from sides(rows, share, seed, found.groups[found.kept].tolist() if len(found.groups) else ())
    return Chosen(rows, train), Chosen(rows, validation)


def _answer(selector: Selector, rows: Sequence[Example], around: Around, file: Path) -> Generator[Progress, None, Selection]:
    """The step's answer, from the disk if it is there."""
    if (found := flags.read(file)) is not None and len(found.kept) == len(rows):
        return found
    began = time.monotonic()
    try:
        found = yield from selector.keep(rows, around)
    except WorkbenchError as error:
        raise WorkbenchError(f"The step {selector.title()!r} cannot be done. {error}") from error
    if time.monotonic() - began >= WORTH:
        flags.write(file, found)
    return found


def scored(selection: Selection, rows: Sequence[Example], indices: Sequence[int]) -> Scores | None:
    """The selection's scores counted in `BINS` equal parts of their range; None where there are none."""
    scores, stays = torch.tensor(selection.scores, dtype=torch.float64), torch.tensor(selection.kept)
    there = scores.isfinite()
    if not there.any():
        return None
    edges = edges_of(scores[there])
    kept, dropped = (torch.histogram(scores[there & side], edges).hist.int().tolist() for side in (stays, ~stays))
    last, first = (_near(scores, there & side, selection.cuts, rows, indices) for side in (stays, ~stays))
    return Scores(selection.what, edges.tolist(), kept, dropped, selection.cuts, last, first)


def edges_of(values: Tensor) -> Tensor:
    """The edges of `BINS` equal parts of the range of some numbers."""
    low, high = (float(end) for end in values.aminmax())
    return torch.linspace(low, high if high > low else low + 1, BINS + 1, dtype=torch.float64)


def _spread_out(selection: Selection, indices: Sequence[int], count: int, scores: Scores | None) -> Tensor | None:
    """A step's numbers at the places of their rows among all."""
    if scores is None:
        return None
    found = torch.full((count,), torch.nan)
    found[torch.tensor(indices)] = torch.tensor(selection.scores, dtype=torch.float32)
    return found


def _near(scores: Tensor, side: Tensor, cuts: Sequence[float], rows: Sequence[Example], indices: Sequence[int]) -> list[Near]:
    """The rows of a side that lie nearest to a line."""
    places = side.nonzero()[:, 0]
    if not cuts or not len(places):
        return []
    far = torch.stack([(scores[places] - cut).abs() for cut in cuts]).amin(0)
    nearest = places[far.argsort(stable=True)[:SHOWN]].tolist()
    return [Near(indices[place] + 1, float(scores[place]), rows[indices[place]].as_text()[:BEGINS]) for place in nearest]


def file_state(name: str, workspace: Workspace) -> tuple[str, int, int]:
    """What tells one state of a data set from another: its place, when it was changed, and its size."""
    path = path_of(name, workspace)
    if not path.exists():
        return str(path), 0, 0  # reading it raises the sentence that fits
    return str(path), path.stat().st_mtime_ns, path.stat().st_size


def _key(spec: DataSpec, workspace: Workspace, model: str) -> str:
    """What decides which rows are kept, and what is told of each step."""
    return _digest([_chain(spec, workspace, model)[-1], [[step.name, step.skip] for step in spec.selectors]])


def _keys(spec: DataSpec, workspace: Workspace, model: str) -> list[Path]:
    """Where the answer of each step is kept: under what decides it, which is the file, the steps before it, and the step."""
    return [workspace.cache("steps") / f"{key}.parquet" for key in _chain(spec, workspace, model)[1:]]


def _chain(spec: DataSpec, workspace: Workspace, model: str) -> list[str]:
    """A key for the data set without steps, with the first one, with the first two, …"""
    keys = [_digest([VERSION, str(workspace.home.resolve()), file_state(spec.path, workspace), dict(sorted(spec.columns.items()))])]
    for selector in spec.selectors:
        if selector.skip:
            keys.append(keys[-1])
            continue
        read = selector.reader()
        reads = "" if read is None else state_of(models.resolve(read or model, workspace))
        others = [file_state(name, workspace) for name in selector.others()]
        keys.append(_digest([keys[-1], selector.chosen(), reads, others]))
    return keys


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
