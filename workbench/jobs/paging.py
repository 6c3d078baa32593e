"""The rows of a data set under a recipe as the page lists them: which are shown, in which order, and what the model reads of each.

What it is: `Wanted` says what is to be listed, `paging` finds it (with progress, because a million rows take their time) and `page` waits
for it. What it is not: it reads no format, renders no template, and drops no row.
"""

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from transformers import PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.core.memory import Memory
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs.findings import findings
from workbench.jobs.handiwork import answer_of, is_gone
from workbench.jobs.numbers import CALM, Spread, numbers, ordered, spread, what
from workbench.jobs.recipe import measured
from workbench.jobs.steps import Curated, sifted
from workbench.materials import models
from workbench.materials.corpus import mark
from workbench.materials.rows import Chosen
from workbench.materials.templates import pieces

Order = Literal["as in the file", "smallest first", "largest first"]
ORDERS: tuple[Order, ...] = get_args(Order)
BULK = 5000  # rows that can be marked by hand at once: each mark stands in the recipe


@dataclass(frozen=True)
class Wanted:
    """Which rows, and in which order.

    `show` is "all", "kept", "dropped", "nothing to learn" (looked for among the measured rows alone, as `Look.nothing` is), or the kind of
    a finding; `find` is what a row must say, in any case; `by` names a number (`jobs/numbers.py`) that must lie from `least` to `most`
    and by which rows are in `order`; `rows` are numbers of rows from 1, of which alone some are shown, None for no such choice.
    """

    show: str = "kept"
    find: str = ""
    by: str = ""
    least: float = -math.inf
    most: float = math.inf
    order: Order = "as in the file"
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Row:
    """One row for the table and the bubbles; `number` counts the readable rows of the file from 1, `mark` stands for what the row says in
    the file (`corpus.mark`), `gone` whether a person dropped it. `before` is what can be rewritten, its last answer or the whole of a plain
    text as it is in the file, and `answer` what a person made of it.

    `turns` are (role, content); a plain text is one turn of the role "text". `pieces` are (text, "trained" | "masked" |
    "cut") in order. `dropped` says why a selection step dropped it, `problem` why the template refuses it; else empty.
    `figure` is the number that rows are sorted or picked by, NaN where there is none.
    """

    number: int
    mark: str
    gone: bool
    answer: str
    before: str
    source: str
    line: int
    format: str
    turns: list[tuple[str, str]]
    pieces: list[tuple[str, str]]
    trained: int
    cut: int
    dropped: str
    problem: str
    figure: float = math.nan


@dataclass(frozen=True)
class Page:
    """`rows` of the `total` that are wanted, from `offset`; `spread` is the distribution of the number that they are sorted by."""

    total: int
    offset: int
    rows: list[Row]
    spread: Spread | None = None


@dataclass(frozen=True, eq=False)
class Listed:
    """Indices of the rows that are wanted, in their order, and the distribution of their numbers."""

    data: Curated
    indices: Sequence[int]
    figures: torch.Tensor | None = None
    spread: Spread | None = None


_held = Memory[Listed](8)


def listing(
    spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, wanted: Wanted, model: str = models.POCKET
) -> Generator[Progress, None, Listed]:
    """The rows that are wanted; remembered, so that turning the page takes no second look.

    Raises:
        WorkbenchError: as `sifted`, or there is no number of that name.
    """
    data = yield from sifted(spec, workspace, model)
    key = (data, tokenizer, str(tokenizer.chat_template), spec.train_on, spec.max_length, wanted)
    if (there := _held.get(key)) is not None:
        return there
    chosen = yield from _shown(data, spec, tokenizer, workspace, model, wanted.show)
    if wanted.rows is not None:
        picked = {number - 1 for number in wanted.rows}
        chosen = [index for index in chosen if index in picked]
    if wanted.find:
        chosen = yield from _saying(data, chosen, wanted.find)
    return _held.put(key, (yield from _by_number(data, chosen, wanted)))


def page(
    spec: DataSpec,
    tokenizer: PreTrainedTokenizerBase,
    workspace: Workspace,
    wanted: Wanted = Wanted(),
    offset: int = 0,
    limit: int = 20,
    model: str = models.POCKET,
) -> Page:
    """`limit` of the wanted rows from `offset` on, with their mask."""
    return drain(paging(spec, tokenizer, workspace, wanted, offset, limit, model))


def paging(
    spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, wanted: Wanted, offset: int, limit: int, model: str
) -> Generator[Progress, None, Page]:
    """What `page` returns, with progress."""
    found = yield from listing(spec, tokenizer, workspace, wanted, model)
    start = max(0, offset)
    shown = [
        _row(spec, tokenizer, found.data, index, math.nan if found.figures is None else float(found.figures[index]))
        for index in found.indices[start : start + limit]
    ]
    return Page(len(found.indices), start, shown, found.spread)


def row(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, number: int, model: str = models.POCKET) -> Row:
    """The row of that number, from 1."""
    return _row(spec, tokenizer, drain(sifted(spec, workspace, model)), number - 1)


def marks(found: Listed) -> list[str]:
    """The marks of the rows that are listed, for `jobs/handiwork.py`.

    Raises:
        WorkbenchError: they are more than a recipe should hold by hand.
    """
    if len(found.indices) > BULK:
        raise WorkbenchError(
            f"{len(found.indices):,} rows are shown, and at most {BULK:,} can be dropped by hand at once, because the recipe names each. "
            "Add a step that drops them by what they have in common, or narrow what is shown."
        )
    return list(dict.fromkeys(mark(example) for example in Chosen(found.data.corpus.examples, sorted(found.indices))))


def _shown(
    data: Curated, spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, model: str, show: str
) -> Generator[Progress, None, Sequence[int]]:
    """Indices of the rows that are shown, ascending."""
    if show in ("all", "kept", "dropped"):
        return {"all": range(len(data.examples)), "kept": data.kept, "dropped": sorted(data.dropped)}[show]
    found = yield from measured(data, spec, tokenizer)
    if show == "nothing to learn":
        return found.nothing
    issues = yield from findings(data, found, spec, tokenizer, workspace, model)
    return [row - 1 for issue in issues if issue.kind == show for row in issue.rows]


def _saying(data: Curated, chosen: Sequence[int], words: str) -> Generator[Progress, None, list[int]]:
    wanted, found = words.casefold(), list[int]()
    for place, (index, example) in enumerate(zip(chosen, Chosen(data.examples, chosen), strict=True)):
        if place % CALM == 0:
            yield Progress(place, len(chosen), "rows searched")
        if wanted in example.as_text().casefold():
            found.append(index)
    return found


def _by_number(data: Curated, chosen: Sequence[int], wanted: Wanted) -> Generator[Progress, None, Listed]:
    if not wanted.by:
        return Listed(data, chosen)
    every = yield from numbers(data, wanted.by)
    own = every[torch.tensor(chosen, dtype=torch.int64)]
    if (wanted.least, wanted.most) != (-math.inf, math.inf):
        inside = (own >= wanted.least) & (own <= wanted.most)
        chosen, own = [chosen[place] for place in inside.nonzero()[:, 0].tolist()], own[inside]
    in_order = chosen if wanted.order == "as in the file" else ordered(chosen, own, wanted.order == "largest first")
    return Listed(data, in_order, every, spread(what(data, wanted.by), own))


def _row(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, data: Curated, index: int, figure: float = math.nan) -> Row:
    example, problem, tokens = data.examples[index], "", list[tuple[str, str]]()
    own, before, recipe = mark(data.corpus.examples[index]), data.corpus.examples[index].last_answer(), spec.model_dump(mode="json")
    try:
        tokens = [(text, str(state)) for text, state in pieces(tokenizer, example, spec.train_on, spec.max_length)]
    except WorkbenchError as error:
        problem = str(error)
    states = Counter(state for _, state in tokens)
    return Row(
        number=index + 1,
        mark=own,
        gone=is_gone(recipe, own),
        answer=answer_of(recipe, own, before),
        before=before,
        source=example.source,
        line=example.line,
        format=example.format,
        turns=[(message["role"], _said(message)) for message in example.messages] or [("text", example.text)],
        pieces=tokens,
        trained=states["trained"],
        cut=states["cut"],
        dropped=": ".join(data.dropped[index]) if index in data.dropped else "",
        problem=problem,
        figure=figure,
    )


def _said(message: Mapping[str, Any]) -> str:
    calls = [str(call.get("function", call)) for call in message.get("tool_calls", []) if isinstance(call, dict)]
    return "\n".join(part for part in (message["content"], *calls) if part)
