"""A data recipe at work: the selection steps in order, the tokens of what is left, and what a person should know of it.

What it is: the counting behind `curate.look` and `curate.page`, remembered while neither file nor recipe change, so that
paging does not read the file again. What it is not: it draws nothing, writes nothing and knows no selector by name.
"""

import functools
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.materials.corpus import Corpus, load, path_of
from workbench.materials.rows import Chosen, Example, Reject, Selection
from workbench.materials.templates import End, encode_all
from workbench.methods.contracts import Selector

MEASURED = 2000  # rows whose tokens are counted; the first ones
BINS = 40  # bars of a histogram


@dataclass(frozen=True)
class Scores:
    """The numbers that a step goes by: how many of those that stay and of those that go lie between each two `edges`."""

    what: str
    edges: list[float]
    kept: list[int]
    dropped: list[int]
    cuts: tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """What one selection step dropped, and the numbers that it went by, if it did."""

    title: str
    dropped: int
    scores: Scores | None = None


@dataclass(frozen=True)
class Curated:
    """A data set after its selection steps: indices of the kept rows, and of each dropped row the step and the reason."""

    corpus: Corpus
    kept: list[int]
    dropped: dict[int, tuple[str, str]]
    steps: list[Step]


@dataclass(frozen=True)
class Measured:
    """Of each measured row (an index into the corpus): tokens before the cut, tokens learnt after it, tokens cut off, and
    what became of the end of its last answer (see `templates.Encoded`).

    `refused` holds the rows that the chat template cannot render, with its sentence; they have no tokens. The rows of
    `nothing`, `unfinished` and `endless` are apart from one another.
    """

    rows: list[int]
    lengths: list[int]
    learnt: list[int]
    cut: list[int]
    ends: list[End]
    refused: dict[int, str]

    @property
    def nothing(self) -> list[int]:
        """Indices of the rows with no token to learn."""
        return [row for row, learnt in zip(self.rows, self.learnt, strict=True) if not learnt]

    @property
    def unfinished(self) -> list[int]:
        """Those cut in the middle of an answer: its end is never learnt."""
        return self._that_end("cut")

    @property
    def endless(self) -> list[int]:
        """Those whose answer is whole and has no end mark that is learnt."""
        return self._that_end("none")

    @property
    def shortened(self) -> list[int]:
        """Those cut behind an answer whose end is learnt."""
        return [row for row, cut, end in zip(self.rows, self.cut, self.ends, strict=True) if cut and end == "learnt"]

    def _that_end(self, end: End) -> list[int]:
        return [row for row, learnt, found in zip(self.rows, self.learnt, self.ends, strict=True) if learnt and found == end]


def select(
    examples: Sequence[Example], selectors: Sequence[Selector]
) -> Generator[Progress, None, tuple[list[int], dict[int, tuple[str, str]], list[Step]]]:
    """The steps in order, each on what the one before kept: kept indices, index → (step, reason), and each step's count."""
    indices, dropped, steps = list(range(len(examples))), dict[int, tuple[str, str]](), list[Step]()
    for selector in selectors:
        selection = yield from selector.keep(Chosen(examples, indices))
        out = {indices[place]: (selector.title(), reason) for place, reason in selection.reasons.items()}
        dropped |= out
        steps.append(Step(selector.title(), len(out), scored(selection)))
        indices = [index for index, stays in zip(indices, selection.kept, strict=True) if stays]
    return indices, dropped, steps


def scored(selection: Selection) -> Scores | None:
    """The selection's scores counted in `BINS` equal parts of their range; None where there are none."""
    scores, stays = torch.tensor(selection.scores, dtype=torch.float64), torch.tensor(selection.kept)
    there = scores.isfinite()
    if not there.any():
        return None
    low, high = (float(end) for end in scores[there].aminmax())
    edges = torch.linspace(low, high if high > low else low + 1, BINS + 1, dtype=torch.float64)
    kept, dropped = (torch.histogram(scores[there & side], edges).hist.int().tolist() for side in (stays, ~stays))
    return Scores(selection.what, edges.tolist(), kept, dropped, selection.cuts)


def curated(spec: DataSpec, workspace: Workspace) -> Curated:
    """The rows that the recipe's steps keep and drop."""
    return _curated(key_of(spec), workspace, state_of(spec, workspace))


def measured(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace) -> Measured:
    """The tokens of the first `MEASURED` kept rows."""
    state = state_of(spec, workspace)
    return _measured(key_of(spec), workspace, state, tokenizer, str(tokenizer.chat_template), spec.train_on, spec.max_length)


def key_of(spec: DataSpec) -> str:
    """What decides which rows are kept, as a value that can be remembered."""
    return json.dumps(spec.model_dump(mode="json", include={"path", "columns", "selectors"}), sort_keys=True)


def state_of(spec: DataSpec, workspace: Workspace) -> tuple[str, int, int]:
    path = path_of(spec.path, workspace)
    if not path.exists():
        return str(path), 0, 0  # reading it raises the sentence that fits
    return str(path), path.stat().st_mtime_ns, path.stat().st_size


@functools.lru_cache(maxsize=4)
def _curated(key: str, workspace: Workspace, state: tuple[str, int, int]) -> Curated:
    spec = DataSpec(**json.loads(key))
    corpus = load(spec.path, workspace, spec.columns)
    return Curated(corpus, *drain(select(corpus.examples, spec.selectors)))


@functools.lru_cache(maxsize=4)
def _measured(
    key: str,
    workspace: Workspace,
    state: tuple[str, int, int],
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    train_on: Any,
    longest: int,
) -> Measured:
    data = _curated(key, workspace, state)
    rows = data.kept[:MEASURED]
    encoded = list(encode_all(tokenizer, Chosen(data.corpus.examples, rows), train_on, longest))
    return Measured(
        rows=rows,
        lengths=[0 if isinstance(row, Reject) else len(row.ids) + row.cut for row in encoded],
        learnt=[0 if isinstance(row, Reject) else sum(row.trained[1:]) for row in encoded],  # nothing predicts the first token
        cut=[0 if isinstance(row, Reject) else row.cut for row in encoded],
        ends=["none" if isinstance(row, Reject) else row.end for row in encoded],
        refused={index: row.reason for index, row in zip(rows, encoded, strict=True) if isinstance(row, Reject)},
    )
