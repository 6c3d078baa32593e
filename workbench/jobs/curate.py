"""A data set under a recipe, as the Data tab asks for it: what the recipe makes of it (`looking`), and its rows (`page`).

What it is not: it reads no format, renders no template and knows no selector by name; `steps.py` and `recipe.py` do the counting.
"""

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from workbench.core.events import Progress, Table
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs.findings import Issue, findings
from workbench.jobs.ingest import SHOWN, rejects_table
from workbench.jobs.mixing import Portion, planned
from workbench.jobs.recipe import measured
from workbench.jobs.steps import Curated, Step, sifted
from workbench.materials import models
from workbench.materials.corpus import DataChoice, available

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
    issues = yield from findings(data, found, spec, tokenizer, workspace, model)
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
