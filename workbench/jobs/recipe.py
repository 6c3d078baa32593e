"""A data recipe at work: the selection steps in order, the tokens of what is left, and what a person should know of it.

What it is: the counting behind `curate.look` and `curate.page`, remembered while neither file nor recipe change, so that
paging does not read the file again. What it is not: it draws nothing, writes nothing and knows no selector by name.
"""

import functools
import json
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.materials.corpus import Corpus, digest, load, normalised, path_of
from workbench.materials.rows import Chosen, Example, Reject, Selection
from workbench.materials.templates import End, encode_all
from workbench.methods.contracts import Selector

MEASURED = 2000  # rows whose tokens are counted; the first ones
BINS = 40  # bars of a histogram
NAMED = 200  # row numbers an issue names
FEW = 20  # rows below which a person is told that there are few

Level = Literal["act", "watch", "info"]


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
class Issue:
    """Something a person should know of the data; `rows` are row numbers from 1, the first `NAMED` of `count`."""

    text: str
    level: Level
    count: int
    rows: list[int]


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
    return _curated(_key(spec), workspace, _state(spec, workspace))


def measured(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace) -> Measured:
    """The tokens of the first `MEASURED` kept rows."""
    state = _state(spec, workspace)
    return _measured(_key(spec), workspace, state, tokenizer, str(tokenizer.chat_template), spec.train_on, spec.max_length)


def _key(spec: DataSpec) -> str:
    """What decides which rows are kept, as a value that can be remembered."""
    return json.dumps(spec.model_dump(mode="json", include={"path", "columns", "selectors"}), sort_keys=True)


def _state(spec: DataSpec, workspace: Workspace) -> tuple[str, int, int]:
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


# What a person should know.


def issues_of(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, data: Curated, found: Measured) -> list[Issue]:
    """Findings in full sentences, the most pressing first."""
    measured = list(zip(found.rows, Chosen(data.corpus.examples, found.rows), strict=True))
    issues = [*_of_file(data), *_of_tokens(spec, data, found), *_of_rows(data), *_of_template(tokenizer, measured)]
    return sorted(issues, key=lambda issue: (("act", "watch", "info").index(issue.level), -issue.count))


def _issue(text: str, level: Level, indices: Sequence[int]) -> Issue:
    return Issue(text, level, len(indices), [index + 1 for index in indices[:NAMED]])


def _rows(count: int, one: str, many: str) -> str:
    """`1 row is`, `12 rows are`."""
    return f"1 row {one}" if count == 1 else f"{count:,} rows {many}"


def _of_file(data: Curated) -> list[Issue]:
    issues, rejects, examples = [], data.corpus.rejects, data.corpus.examples
    if rejects:
        reason = Counter(reject.reason for reject in rejects).most_common(1)[0][0]
        text = f"{len(rejects):,} of {len(rejects) + len(examples):,} rows could not be read. Most often: {reason}"
        issues.append(Issue(text, "act" if len(rejects) > len(examples) else "watch", len(rejects), []))
    formats = Counter(data.corpus.formats)
    if len(formats) > 1:
        shares = ", ".join(f"{name} {count:,}" for name, count in formats.most_common())
        odd = [index for index, example in enumerate(examples) if example.format != data.corpus.format]
        issues.append(_issue(f"The rows have {len(formats)} formats ({shares}). Each was read in its own.", "watch", odd))
    if len(data.kept) < FEW:
        issues.append(
            Issue(f"Only {_rows(len(data.kept), 'is', 'are')} left to learn from.", "watch" if data.kept else "act", len(data.kept), [])
        )
    return issues


def _of_tokens(spec: DataSpec, data: Curated, found: Measured) -> list[Issue]:
    issues = []
    of = "" if len(found.rows) == len(data.kept) else f" (of the first {len(found.rows):,}, which were counted)"
    if found.refused:
        first = next(iter(found.refused.values()))
        issues.append(
            _issue(f"{_rows(len(found.refused), 'does', 'do')} not fit the chat template{of}. {first}", "act", list(found.refused))
        )
    nothing = [index for index in found.nothing if index not in found.refused]
    if nothing:
        text = f"{_rows(len(nothing), 'holds', 'hold')} no token to learn{of}: no answer begins within {spec.max_length} tokens."
        issues.append(_issue(text, "act" if len(nothing) > len(found.rows) / 2 else "watch", nothing))
    long = [index for index, cut in zip(found.rows, found.cut, strict=True) if cut]
    if long:
        share = sum(found.cut) / sum(found.lengths)
        lost = f"{share * 100:.0f} %" if share >= 0.01 else "under 1 %"
        text = f"{_rows(len(long), 'is', 'are')} longer than {spec.max_length} tokens{of}; {lost} of all tokens are cut off."
        issues.append(_issue(text, "watch", long))
    if found.unfinished:
        text = f"{_rows(len(found.unfinished), 'is', 'are')} cut in the middle of an answer{of}, whose end is then never learnt."
        issues.append(_issue(text, "watch", found.unfinished))
    if found.endless:
        text = (
            f"{_rows(len(found.endless), 'has', 'have')} an answer without an end mark that is learnt{of}: the model may not learn to stop."
        )
        issues.append(_issue(text, "watch", found.endless))
    return issues


def _of_rows(data: Curated) -> list[Issue]:
    """Rows that say the same, or answer one question differently; told by short hashes, as a million texts would not fit into memory."""
    seen, asked = set[int](), dict[int, int]()
    copies, conflicts = [], []
    for index, example in zip(data.kept, Chosen(data.corpus.examples, data.kept), strict=True):
        whole, question, answer = digest(normalised(example.as_text())), normalised(example.question()), digest(example.answer())
        if whole in seen:
            copies.append(index)
        elif question and asked.setdefault(digest(question), answer) != answer:
            conflicts.append(index)
        seen.add(whole)
    issues = []
    if copies:
        issues.append(
            _issue(f"{_rows(len(copies), 'says', 'say')} the same as an earlier row. A selection step can drop them.", "watch", copies)
        )
    if conflicts:
        text = f"{_rows(len(conflicts), 'answers', 'answer')} a question differently than an earlier row does. Look whether both are right."
        issues.append(_issue(text, "info", conflicts))
    return issues


def _of_template(tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[int, Example]]) -> list[Issue]:
    issues = []
    special = [token for token in tokenizer.all_special_tokens if len(token) > 2]
    marked = [index for index, example in rows if any(token in example.as_text() for token in special)]
    if marked:
        text = (
            f"{_rows(len(marked), 'holds', 'hold')} a control mark of the model in the text (such as {special[0]}), which is taken as one."
        )
        issues.append(_issue(text, "watch", marked))
    if not tokenizer.chat_template and any(example.messages for _, example in rows):
        text = "The model has no chat template. Questions are written as '### Question:' and answers as '### Answer:', one below the other."
        issues.append(Issue(text, "info", 0, []))
    return issues
