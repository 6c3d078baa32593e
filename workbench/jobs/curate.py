"""A data set under a recipe, as the Data tab asks for it: what the recipe makes of it (`looking`), and its rows (`page`).

What it is not: it reads no format, renders no template and knows no selector by name; `steps.py` and `recipe.py` do the counting.
"""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress, Table
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs.findings import Issue, findings
from workbench.jobs.handiwork import answer_of, is_gone
from workbench.jobs.ingest import SHOWN, rejects_table
from workbench.jobs.mixing import Portion, planned
from workbench.jobs.recipe import measured
from workbench.jobs.steps import Curated, Step, sifted
from workbench.materials import models
from workbench.materials.around import Around
from workbench.materials.corpus import DataChoice, available, mark
from workbench.materials.rows import Chosen
from workbench.materials.templates import pieces

Show = str  # "all", "kept", "dropped", "nothing to learn", or the kind of a finding


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
    portions: list[Portion]
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


def look(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, model: str = models.POCKET) -> Look:
    """What `looking` returns, without its progress."""
    return drain(looking(spec, tokenizer, workspace, model))


def looking(
    spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, model: str = models.POCKET
) -> Generator[Progress, None, Look]:
    """All that the page needs of a data set under a recipe; at once where neither file nor recipe nor `model` (a reference) changed.

    Raises:
        WorkbenchError: the data set is missing or unreadable, a step cannot do its work, or the tokenizer cannot be used.
    """
    data = yield from sifted(spec, workspace, model)
    found = yield from measured(data, spec, tokenizer)
    issues = yield from findings(data, found, spec, tokenizer, Around(workspace, model))
    return Look(
        name=spec.path,
        format=data.corpus.format,
        formats=dict(Counter(data.corpus.formats).most_common()),
        rows=len(data.examples),
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
        issues=issues,
        portions=(yield from planned(spec, tokenizer, workspace, model)),
        rejects=rejects_table(data.corpus.rejects),
        dropped=_dropped_table(data),
    )


def _dropped_table(data: Curated) -> Table:
    rows = []
    for index in sorted(data.dropped)[:SHOWN]:
        step, reason = data.dropped[index]
        rows.append([index + 1, data.examples[index].line, step, reason, data.examples[index].as_text()[:200]])
    return Table("dropped", ["row", "line", "step", "reason", "begins with"], rows)


# Reading rows.


@dataclass(frozen=True)
class Row:
    """One row for the table and the bubbles; `number` counts the readable rows of the file from 1, `mark` stands for what the row says in
    the file (`corpus.mark`), `gone` whether a person dropped it. `before` is what can be rewritten, its last answer or the whole of a plain
    text as it is in the file, and `answer` what a person made of it.

    `turns` are (role, content); a plain text is one turn of the role "text". `pieces` are (text, "trained" | "masked" |
    "cut") in order. `dropped` says why a selection step dropped it, `problem` why the template refuses it; else empty.
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
    model: str = models.POCKET,
) -> Page:
    """`limit` rows from `offset` on of those that are `show`n and hold `find` (in any case), with their mask.

    "nothing to learn" looks among the measured rows alone, as `Look.nothing` does; of a finding those rows are shown that it names.
    """
    data = drain(sifted(spec, workspace, model))
    chosen = _shown(data, spec, tokenizer, Around(workspace, model), show)
    if find:
        rows = zip(chosen, Chosen(data.examples, chosen), strict=True)
        chosen = [index for index, example in rows if find.casefold() in example.as_text().casefold()]
    shown = chosen[max(0, offset) : max(0, offset) + limit]
    return Page(len(chosen), max(0, offset), [_row(spec, tokenizer, data, index) for index in shown])


def row(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, number: int, model: str = models.POCKET) -> Row:
    """The row of that number, from 1."""
    return _row(spec, tokenizer, drain(sifted(spec, workspace, model)), number - 1)


def _shown(data: Curated, spec: DataSpec, tokenizer: PreTrainedTokenizerBase, around: Around, show: Show) -> Sequence[int]:
    """Indices of the rows that are shown, ascending."""
    if show in ("all", "kept", "dropped"):
        return {"all": range(len(data.examples)), "kept": data.kept, "dropped": sorted(data.dropped)}[show]
    found = drain(measured(data, spec, tokenizer))
    if show == "nothing to learn":
        return found.nothing
    return [row - 1 for issue in drain(findings(data, found, spec, tokenizer, around)) if issue.kind == show for row in issue.rows]


def _row(spec: DataSpec, tokenizer: PreTrainedTokenizerBase, data: Curated, index: int) -> Row:
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
    )


def _said(message: Mapping[str, Any]) -> str:
    calls = [str(call.get("function", call)) for call in message.get("tool_calls", []) if isinstance(call, dict)]
    return "\n".join(part for part in (message["content"], *calls) if part)
