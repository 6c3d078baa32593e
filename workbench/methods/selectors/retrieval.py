"""Error-driven retrieval: rows that speak of what the model gets wrong on a target set. The search is `materials/bm25.py`.

What it is not: the paper's method, Error-driven Data-efficient Large Multimodal Model Tuning, Yao, Wang and Huang, 2024, arXiv:2412.15652,
in which a stronger model names the skill that is missing. Tags as in the project's notes: [A] abstract only, [K] known, [REC] our
reconstruction, [O] our own choice.
"""

import math
from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.method import knob
from workbench.core.words import number
from workbench.materials.around import Around
from workbench.materials.bm25 import Index, Postings
from workbench.materials.corpus import digest
from workbench.materials.grams import Batch, batches, words
from workbench.materials.overlap import LEAST, asked, items, said
from workbench.materials.ranking import budget
from workbench.materials.rows import Chosen, Example
from workbench.materials.shares import Shared, shared
from workbench.methods.contracts import Selection, Selector

COMMON = 10  # rows of the target that may have a group of words which is looked for in near copies [O]


class Retrieval(Selector, title="Error-driven retrieval, after the idea of Yao, Wang and Huang", paper="arXiv:2412.15652"):
    """Look where the model is most wrong on a target set, and let each of those rows take in turn the row that speaks most of the same.

    $$\\mathrm{BM25}(v, x) = \\sum_{w \\in v} \\mathrm{idf}(w) \\frac{n \\, (k + 1)}{n + k \\, (1 - b + b \\, |x| / \\overline{|x|})}$$

    The paper lets a stronger model read a model's mistakes and name the skill that is missing, and finds rows for that skill [A]. Here a
    mistake is a row of the target whose answer costs the model most per token, and what is missing is said by that row itself, question
    and answer [REC]. BM25 compares words: rare ones count more (idf), one that stands there n times adds less each time (k = 1.5), and long
    rows are held back (b = 0.75) [K]. No row is taken twice. Near copies of any row of the target are left out, so that it can still be
    measured with: rows that hold most of its question's groups of five words.

    It finds what is said in the same words and nothing else; a surprising answer may also be a wrong one or a matter of taste, so look at
    the rows that are named in the reasons. Rows that share no word with a mistake never stay, even if fewer stay than were asked for.

    The model reads the target once and none of these rows; one pass over them, and a search for each mistake.
    """

    target: str = knob("", help="name of the data set on which the model is to become better", names="data", label="target set")
    share: float = knob(0.05, gt=0, le=1, step=0.01, help="share of the rows that stay")
    quantile: float = knob(0.75, ge=0, lt=1, step=0.05, help="share of the target that is right enough; 0 takes all of it as mistakes")
    alike: float = knob(
        0.8, gt=0, le=1, step=0.05, help="share of a target row's words that makes a near copy", label="near copy", more=True
    )
    model: str = knob("", help="model whose mistakes are looked for; empty takes the one that is trained", names="model", more=True)

    def reader(self) -> str | None:
        return self.model if self.quantile > 0 else None

    def others(self) -> list[str]:
        return [self.target] if self.target else []

    def keep(self, examples: Sequence[Example], around: Around) -> Generator[Progress, None, Selection]:
        wanted = around.rows(self.target, self.title())
        if not len(examples):
            return Selection([])
        wrong = yield from self._wrong(wanted, around)
        queries = _queries(Chosen(wanted, sorted(wrong)))
        copies, index = yield from self._read(examples, wanted, torch.cat(queries))
        query = dict(zip(sorted(wrong), queries, strict=True))
        out = torch.tensor(list(copies), dtype=torch.int64)

        def score(start: int, stop: int) -> Tensor:
            found = torch.stack([index.scores(query[row]) for row in wrong[start:stop]])
            found[:, out] = 0
            return found.masked_fill(found <= 0, -torch.inf)

        turns = yield from shared(score, len(wrong), len(examples), budget(self.share, len(examples)))
        return self._selection(turns, wrong, copies, len(examples))

    def _wrong(self, wanted: Sequence[Example], around: Around) -> Generator[Progress, None, list[int]]:
        """The rows of the target whose answers cost most per token, the costliest first."""
        if self.quantile == 0:
            return list(range(len(wanted)))
        found = (yield from around.surprise(wanted, self.model)).double()
        cost = found[:, 0] / found[:, 1]
        there = cost.isfinite()
        if not there.any():
            raise WorkbenchError(
                "No row of the target has an answer to learn, so none is wrong. Set the quantile to 0 to take all of them."
            )
        line = cost[there].quantile(self.quantile)
        order = cost.masked_fill(~there, -torch.inf).sort(descending=True, stable=True)
        return order.indices[order.values >= line].tolist()

    def _read(
        self, examples: Sequence[Example], wanted: Sequence[Example], query: Tensor
    ) -> Generator[Progress, None, tuple[dict[int, int], Index]]:
        """({near copy: row of the target}, the index of all rows), in one pass over them."""
        looked_for = yield from items(map(_own, wanted), len(wanted), LEAST, COMMON)
        whole = _wholes(wanted)
        copies, postings = dict[int, int](), Postings(query)
        for batch in batches(map(said, examples)):
            postings.add(batch)
            found = looked_for.found(batch)
            near = found.share >= self.alike
            copies |= dict(zip(found.text[near].tolist(), found.item[near].tolist(), strict=True)) | _same(batch, whole)
            yield Progress(batch.first + batch.count, len(examples), "rows indexed")
        return copies, postings.index()

    def _selection(self, turns: Shared, wrong: list[int], copies: dict[int, int], count: int) -> Selection:
        kept, last, reasons, target = [False] * count, turns.last(), dict[int, str](), self.target or "the target"
        for row, _, _ in turns.taken:
            kept[row] = True
        scores = [good if math.isfinite(good) else math.nan for good in turns.best.tolist()]
        for row, (good, asker) in enumerate(zip(scores, turns.asker.tolist(), strict=True)):
            if row in copies:
                reasons[row] = f"is a near copy of row {copies[row] + 1} of {target}, which is kept apart"
            elif math.isnan(good):
                reasons[row] = f"shares no word with the rows of {target} that the model gets most wrong"
            elif not kept[row]:
                took = f"took rows down to {number(last[asker])}" if asker in last else "had no turn"
                reasons[row] = f"speaks most of what row {wrong[asker] + 1} of {target} does (BM25 {number(good)}), which {took}"
        return Selection(kept, reasons, scores, (), "BM25 for the nearest of the mistakes")


def _own(row: Example) -> str:
    """What makes a row of the target: its question, or all of it where the question is too short to tell."""
    question = asked(row, "question")
    return question if len(words(question)) >= LEAST else said(row)


def _queries(wrong: Sequence[Example]) -> list[Tensor]:
    """Of each row its words as numbers."""
    found = list[Tensor]()
    for batch in batches(map(said, wrong)):
        found += batch.ids.split(batch.lengths().tolist())
    return found


def _wholes(wanted: Sequence[Example]) -> dict[int, int]:
    """{digest of all its words: the first row that says so}"""
    found = dict[int, int]()
    for place, row in enumerate(wanted):
        found.setdefault(digest(" ".join(words(said(row)))), place)
    return found


def _same(batch: Batch, whole: dict[int, int]) -> dict[int, int]:
    """{text: row of the target} of the batch's texts that say what a row of the target says, to the word."""
    found, start = dict[int, int](), 0
    for place, stop in enumerate(batch.lengths().cumsum(0).tolist()):
        row = whole.get(digest(" ".join(batch.words[start:stop])))
        if row is not None and stop > start:
            found[batch.first + place] = row
        start = stop
    return found
