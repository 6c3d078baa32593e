"""What the tokens of a curated data set are: how long its rows are, what of them is learnt, what is cut off.

What it is: the counting behind `curate.look` and `curate.page`, remembered while neither rows nor limits change. What it is not: it draws
nothing, writes nothing and drops no row (`steps.py`).
"""

from collections.abc import Generator
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from workbench.core.events import Progress
from workbench.core.memory import Memory
from workbench.core.parts import DataSpec
from workbench.jobs.steps import Curated
from workbench.materials.rows import Chosen, Reject
from workbench.materials.templates import Encoded, End, encode_all

MEASURED = 2000  # rows whose tokens are counted; the first ones


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


_held = Memory[Measured](4)


def measured(data: Curated, spec: DataSpec, tokenizer: PreTrainedTokenizerBase) -> Generator[Progress, None, Measured]:
    """The tokens of the first `MEASURED` kept rows."""
    key = (data, tokenizer, str(tokenizer.chat_template), spec.train_on, spec.max_length)
    if (there := _held.get(key)) is not None:
        return there
    rows = data.kept[:MEASURED]
    encoded = list[Encoded | Reject]()
    for row in encode_all(tokenizer, Chosen(data.examples, rows), spec.train_on, spec.max_length):
        encoded.append(row)
        if len(encoded) % 100 == 0:
            yield Progress(len(encoded), len(rows), "rows whose tokens are counted")
    return _held.put(key, _of(rows, encoded))


def _of(rows: list[int], encoded: list[Encoded | Reject]) -> Measured:
    return Measured(
        rows=rows,
        lengths=[0 if isinstance(row, Reject) else len(row.ids) + row.cut for row in encoded],
        learnt=[0 if isinstance(row, Reject) else sum(row.trained[1:]) for row in encoded],  # nothing predicts the first token
        cut=[0 if isinstance(row, Reject) else row.cut for row in encoded],
        ends=["none" if isinstance(row, Reject) else row.end for row in encoded],
        refused={index: row.reason for index, row in zip(rows, encoded, strict=True) if isinstance(row, Reject)},
    )
