"""What every step of a data recipe says of itself beside its knobs: what it finds and mends, and that it may be left out.

What it is not: the step's work, which is its verb (`methods/contracts.py`). Read by `jobs/steps.py` and `jobs/looked.py`.
"""

from typing import ClassVar, Literal, Self

from pydantic import BaseModel

from workbench.core.method import knob

Part = Literal["row", "question", "answer"]


class Sifting(BaseModel):
    """A step that is skipped keeps its place and its knobs, and does nothing."""

    mends: ClassVar[tuple[str, ...]] = ()  # kinds of findings in a data set (`jobs/issues.py`) that it is the remedy for
    finds: ClassVar[tuple[str, str]] = ("", "")  # what its rows do, of one and of many, where a new data set is looked through with it
    by_hand: ClassVar[bool] = False  # whether it keeps what a person did: marks of rows in `drop`, answers by mark as JSON in `edits`
    of_range: ClassVar[bool] = False  # whether it keeps what lies from `least` to `most` of the statistic `of` of a part `text`
    passes: ClassVar[int] = 1  # how often the `reader` reads a row

    skip: bool = knob(False, help="keep this step in the recipe, but do not do it", label="leave out")

    @classmethod
    def looking(cls) -> Self:
        """Itself as it looks through a new data set, where it has something to find."""
        return cls()

    @classmethod
    def mending(cls, about: str = "", part: Part = "row") -> Self:
        """Itself as the remedy for a finding, which may be about another data set or a language, and about a part of the rows."""
        return cls()

    def seen(self, rows: int) -> int:
        """How many of so many rows the `reader` reads."""
        return rows

    def left(self, rows: int) -> int:
        """How many of so many rows stay, where its knobs `rows` or `share` say so; all of them where that is known only when it is done."""
        asked = self.model_dump(include={"share", "rows"})
        return min(rows, asked.get("rows") or round(rows * asked.get("share", 1.0)))


class Reads(BaseModel):
    """A step for which a model reads each row; it stands before the contract among a selector's bases."""

    model: str = knob("", help="model that reads the rows; empty takes the one that is trained", names="model", more=True)

    def reader(self) -> str | None:
        """See `contracts.Selector.reader`."""
        return self.model


class Asks(Reads):
    """A step for which a model answers each row's question, after examples of questions with their answers."""

    column: str = knob(
        "", help="column that says which class or relation a row is of, for the examples; empty draws from all rows", more=True
    )
    shots: int = knob(
        4, ge=0, le=16, help="questions with their answers that stand before the one that is asked", label="examples", more=True
    )
    not_asked: Literal["stay", "go"] = knob("stay", help="what becomes of rows that cannot be asked so", label="other rows", more=True)
    seed: int = knob(0, ge=0, le=2**31 - 1, help="fixes the examples and the draws", more=True)

    def readings(self, prompts: int, samples: int) -> int:
        """What a row costs in readings of a row: each prompt is as long as several, and an answer takes about as long as one [V]."""
        return prompts * (1 + self.shots + 1 + samples)
