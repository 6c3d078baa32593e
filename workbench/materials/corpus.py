"""Data sets by name: the demo ones that ship with the program, those of the workspace, and any file.

What it is: where a data set is found, what it holds, and how it is split. What it is not: it reads no format itself
(`formats.py`, `kept.py`) and knows no tokens (`templates.py`).
"""

import functools
import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.core.workspace import ASSETS, NAME, Workspace
from workbench.materials import kept
from workbench.materials.bundles import hints_of, is_bundle, members
from workbench.materials.formats import read
from workbench.materials.guessing import Hint
from workbench.materials.near import joined
from workbench.materials.rows import Chosen, Example, Reject

DEMOS = ASSETS / "demos"
CALM = 2000  # rows between two signs of life
ASKED = 10  # rows that may ask the same before it counts as an instruction
DEMO_KINDS = (".csv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Corpus:
    """A data set. `format` is the one most rows have, `formats` how many have which; each example carries its own.

    The examples and rejects of the workspace's own sets are read when they are asked for, others are in memory.
    """

    name: str
    format: str
    formats: Mapping[str, int]
    examples: Sequence[Example]
    rejects: Sequence[Reject]
    hints: Sequence[Hint] = ()  # what a person should know of how it was read


@dataclass(frozen=True)
class DataChoice:
    """A data set that can be chosen by name."""

    name: str
    where: Literal["demo", "yours"]
    rows: int
    format: str


def load(name_or_path: str, workspace: Workspace, columns: Mapping[str, str] = {}) -> Corpus:
    """The data set of the workspace, the demo data set, or the file; looked for in this order.

    Args:
        columns: role → column where detection is wrong (`formats.read`); a data set of the workspace is then read anew
            from the original that was kept.

    Raises:
        WorkbenchError: there is no such data set, its file cannot be read, or no row of it can be learnt from.
    """
    folder = _folder(name_or_path, workspace)
    if folder and not columns:
        stored = kept.KeptRows(folder)
        return _corpus(name_or_path, stored, stored.formats(), kept.KeptRejects(folder), kept.read_about(folder).hints)
    path = path_of(name_or_path, workspace)
    files = members(path, path) if folder and is_bundle(path) else [path]
    rows = [row for file in files for row in read(file, columns)]
    examples = [row for row in rows if isinstance(row, Example)]
    formats = Counter(example.format for example in examples)
    return _corpus(name_or_path, examples, formats, [row for row in rows if isinstance(row, Reject)], hints_of(files, columns))


def path_of(name_or_path: str, workspace: Workspace) -> Path:
    """The file behind a name: the kept original, the demo file, or the path itself."""
    folder = _folder(name_or_path, workspace)
    if folder:
        return kept.original(folder)
    demo = _demo_files().get(name_or_path)
    if demo:
        return demo
    path = Path(name_or_path).expanduser()
    if not path.exists() and NAME.fullmatch(name_or_path) and not path.suffix:
        names = ", ".join(choice.name for choice in available(workspace)) or "none yet"
        raise WorkbenchError(f"There is no data set {name_or_path!r}. There are: {names}. Or give the path of a file.")
    return path


def available(workspace: Workspace) -> list[DataChoice]:
    """Every data set that has a name, those of the workspace first; one that is damaged is left out."""
    yours = [_kept_choice(folder) for folder in sorted(workspace.data().iterdir()) if _folder(folder.name, workspace)]
    demos = [_demo_choice(name, path) for name, path in _demo_files().items()]
    named = {choice.name for choice in yours if choice}
    return [choice for choice in yours if choice] + [choice for choice in demos if choice.name not in named]


def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, validation) of the rows, both in the given order; see `sides`."""
    train, validation = drain(sides(examples, share, seed))
    return list(Chosen(examples, train)), list(Chosen(examples, validation))


def sides(
    examples: Sequence[Example], share: float, seed: int, groups: Sequence[int] = ()
) -> Generator[Progress, None, tuple[list[int], list[int]]]:
    """Indices of the rows for (train, validation), both ascending. Rows that ask the same, but for case and spaces, fall on the same side,
    because an answer that was learnt is no measure. What more than `ASKED` rows ask is an instruction and no question: of those, and of
    rows that ask nothing, the ones that say the same stay together. `groups` has a number for each row: rows of one number stay together.

    A row's side depends on what it asks or says and the seed alone, so adding rows moves no other, until a question becomes an instruction.
    What is joined by a group goes where its first row goes, so rows that are added behind move no other until they join two groups.
    With `share` above 0 and at least two different rows neither side is empty; what is all one group is trained on.
    """
    keys = yield from _keys(examples, seed)
    if len(groups):
        same = [_first(keys.unique(return_inverse=True)[1]), _first(torch.tensor(groups).unique(return_inverse=True)[1])]
        keys = keys[joined(len(keys), torch.cat([torch.stack([first, torch.arange(len(keys))], 1) for first in same]))]
    different = keys.unique()
    edge = min(max(share, float(different[0])), float(different[-2])) if share > 0 and len(different) > 1 else -1.0
    return (keys > edge).nonzero()[:, 0].tolist(), (keys <= edge).nonzero()[:, 0].tolist()


def _keys(examples: Sequence[Example], seed: int) -> Generator[Progress, None, Tensor]:
    """(N,) float64 from 0 to 1: the place of what each row asks, or of what it says."""
    found, asks = array("d"), array("b")
    for row, example in enumerate(examples):
        if row % CALM == 0:
            yield Progress(row, len(examples), "rows set apart")
        ask = normalised(example.question())
        asks.append(bool(ask))
        found.append(_place(ask or normalised(example.as_text()), seed))
    keys = torch.tensor(found, dtype=torch.float64)
    _, which, often = keys.unique(return_inverse=True, return_counts=True)
    asking = torch.tensor(asks, dtype=torch.bool)
    often = torch.bincount(which[asking], minlength=len(often))
    told = (asking & (often[which] > ASKED)).nonzero()[:, 0].tolist() if len(often) else []
    for row, example in zip(told, Chosen(examples, told), strict=True):
        keys[row] = _place(normalised(example.as_text()), seed)
    if len(keys) and bool((keys == keys[0]).all()):
        keys = torch.tensor([_place(normalised(example.as_text()), seed) for example in examples], dtype=torch.float64)
    return keys


def _first(label: Tensor) -> Tensor:
    """Of each row the first one with its label; labels are numbers from 0."""
    return torch.full((len(label),), len(label)).scatter_reduce(0, label, torch.arange(len(label)), "amin")[label]


def normalised(text: str) -> str:
    """The text without case and with single spaces: what counts as saying the same."""
    return " ".join(text.casefold().split())


def digest(text: str) -> int:
    """64 bits that stand for the text: two of a million texts share them once in thirty million sets."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def mark(example: Example) -> str:
    """Twelve digits that stand for what a row says, the tools it calls and the answer it does not want: its name in a recipe."""
    rest = [[turn.get("tool_calls") for turn in example.messages], example.worse, example.learn]
    told = json.dumps(rest, sort_keys=True, default=str) if example.worse or example.learn or any(rest[0]) else ""
    return f"{digest(example.as_text() + told):016x}"[:12]


def _place(text: str, seed: int) -> float:
    return digest(f"{seed}\n{text}") / 2**64


def _folder(name: str, workspace: Workspace) -> Path | None:
    """The folder of a data set that is wholly in the workspace."""
    if not NAME.fullmatch(name) or ".." in name:
        return None
    folder = workspace.data() / name
    return folder if (folder / kept.ROWS).is_file() and (folder / kept.ABOUT).is_file() else None


def _corpus(
    name: str, examples: Sequence[Example], formats: Mapping[str, int], rejects: Sequence[Reject], told: Sequence[Hint] = ()
) -> Corpus:
    if not examples:
        raise WorkbenchError(no_row(name, rejects, len(rejects)))
    return Corpus(name, usual(formats), formats, examples, rejects, told)


def no_row(name: str, rejects: Sequence[Reject], total: int) -> str:
    """The sentence for a data set of which no row could be read, with the reason that most of these have, of `total` rejects in all."""
    if not rejects:
        return f"{name} has no rows. Choose another data set."
    remedy, often = Counter(reject.remedy for reject in rejects).most_common(1)[0]  # a reason may name its line, so that no two are alike
    reason = next(reject.reason for reject in rejects if reject.remedy == remedy)
    first = "the first " if len(rejects) < total else ""
    count = f" ({often} of {first}{len(rejects)} rows)" if often > 1 else ""
    return f"No row of {name} can be learnt from. {reason.rstrip('.')}{count}. {remedy}"


def usual(formats: Mapping[str, int]) -> str:
    """The format that most rows have."""
    return max(formats, key=lambda name: formats[name], default="")


def _demo_files() -> dict[str, Path]:
    files = sorted(DEMOS.iterdir()) if DEMOS.is_dir() else []
    return {path.stem: path for path in files if path.suffix in DEMO_KINDS}


def _kept_choice(folder: Path) -> DataChoice | None:
    try:
        about = kept.read_about(folder)
    except WorkbenchError:
        return None
    return DataChoice(folder.name, "yours", about.rows, about.format)


def _demo_choice(name: str, path: Path) -> DataChoice:
    rows, form = _counted(path, path.stat().st_mtime_ns)
    return DataChoice(name, "demo", rows, form)


@functools.lru_cache(maxsize=64)
def _counted(path: Path, changed: int) -> tuple[int, str]:
    """(rows, format) of a demo file; counted once for each state of the file."""
    examples = [row for row in read(path) if isinstance(row, Example)]
    return len(examples), usual(Counter(example.format for example in examples))
