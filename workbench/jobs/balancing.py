"""Classes of rows drawn equally often: which there are, how often an epoch takes the rows of each, and what to say of it before the start.

The drawing half of a published mixture rule, "cut every class to r times the smallest, then draw all classes equally often" (NeurIPS 2024,
code tmlabonte/revisiting-finetuning [R]); the cutting half is a selection step. What it is not: it draws nothing itself
(`batches.py`) and reads no file. Tags as in the project's notes: [P] paper, [R] read in published code, [O] our own choice.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.memory import Memory
from workbench.core.words import count, number
from workbench.jobs.batches import Draw
from workbench.jobs.steps import Curated
from workbench.materials.rows import Chosen, Example

SOON = 5.0  # times as often as the largest class beyond which the smallest is soon known by heart: the most the authors cut to [R]


@dataclass(frozen=True)
class Classes:
    """The rows of each class that a column names, the smallest class first; how many rows name none; and the columns that there are."""

    column: str
    sizes: dict[str, int]
    bare: int
    columns: tuple[str, ...]

    @property
    def lift(self) -> float:
        """How many times as often as a row of the largest class one of the smallest is drawn."""
        sizes = list(self.sizes.values())
        return sizes[-1] / sizes[0] if sizes else 1.0

    def told(self) -> str:
        """What drawing by them does, in sentences."""
        if not self.sizes:
            return missing(self.column, self.columns)
        (few, least), (many, most) = next(iter(self.sizes.items())), list(self.sizes.items())[-1]
        bare = f" Rows of no class, {self.bare:,}, come as often as without this." if self.bare else ""
        if self.lift == 1:
            return f"Every class of {self.column!r} has {count(least, 'row')}, so nothing is drawn more often.{bare}"
        soon = (
            " Rows that come so often are soon known by heart: a step that cuts the large classes first, to 2 to 5 times the smallest, "
            "and then this can beat either alone."
        )
        return (
            f"The {len(self.sizes):,} classes of {self.column!r} come equally often: a row of {few!r} ({count(least, 'row')}) "
            f"{number(self.lift)} times as often as one of {many!r} ({count(most, 'row')}).{bare}{soon if self.lift > SOON else ''}"
        )


_held = Memory[Classes](8)


def classes(data: Curated, column: str) -> Generator[Progress, None, Classes]:
    """The classes of the rows that stay; counted once."""
    if (there := _held.get((data, column))) is not None:
        return there
    names, columns = Counter[str](), set[str]()
    for row, example in enumerate(Chosen(data.examples, data.kept)):
        if row % 1000 == 0:
            yield Progress(row, len(data.kept), "rows whose class is counted")
        names[class_of(example, column)] += 1
        columns |= example.meta.keys()
    bare = names.pop("", 0)
    sizes = dict(sorted(names.items(), key=lambda pair: (pair[1], pair[0])))
    return _held.put((data, column), Classes(column, sizes, bare, tuple(sorted(columns))))


def class_of(example: Example, column: str) -> str:
    """The name of a row's class as a column says it; empty where it says nothing, or no column is asked."""
    said = example.meta.get(column) if column else None
    return "" if said is None else str(said).strip()


def missing(column: str, columns: Sequence[str]) -> str:
    return (
        f"Rows are to be drawn equally often by the classes of the column {column!r}, and no row has one. "
        f"Name another in data.balance, or none. There are: {', '.join(columns) or 'none'}."
    )


def refuse(found: Sequence[Classes]) -> None:
    """Nothing, where a row of some set has a class.

    Raises:
        WorkbenchError: none has one.
    """
    if found and not any(one.sizes for one in found):
        raise WorkbenchError(missing(found[0].column, sorted({column for one in found for column in one.columns})))


def draws(names: Sequence[str], epochs: float = 1.0) -> list[Draw]:
    """What an epoch takes of a set whose rows are of these classes ("" is none), where it takes `epochs` times as many rows as there are.

    Every class equally often; rows of no class `epochs` times each, as they would come anyway [O].
    """
    rows, times = dict[str, list[int]](), Fraction(epochs)
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    bare = rows.pop("", [])
    found = [Draw(own, times * (len(names) - len(bare)) / len(rows)) for own in rows.values()]
    return [*found, Draw(bare, times * len(bare))] if bare else found
