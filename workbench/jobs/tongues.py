"""Which languages the rows of a data set are in, where there is more than one: told of some rows, spread over all of them.

What it is: a count of what is sure (`materials/languages.py`); a language that few rows have says nothing. What it is not: a step, which
reads every row. Tags as in the project's notes: [O] our own choice.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from workbench.core.events import Progress
from workbench.core.sifting import Part
from workbench.materials.languages import CODES, known, told
from workbench.materials.overlap import part_of
from workbench.materials.rows import Example

SAMPLE = 2000  # rows that are looked at, and fewer than twice as many
SHARE, FEW = 0.01, 3  # of the rows, and how many, that a second language must have to be told of [O]
MANY = 0.2  # share of the rows from which further languages are meant to be there, most likely [O]
CALM = 200  # rows between two signs of life


@dataclass(frozen=True)
class Mixed:
    """The `main` language and how many rows are in each of the `others`, the most first; `rows` says which these are.

    `part` is what was looked at: the answers, or whole rows where most answers do not tell. `read` rows were looked at.
    """

    part: Part
    main: str
    others: dict[str, int]
    rows: list[int]
    read: int

    @property
    def codes(self) -> str:
        """What the main language can be, for the step that keeps it."""
        return " ".join(sorted(CODES[self.main] & set(known())))

    @property
    def meant(self) -> bool:
        """Whether so many rows are in other languages that nobody put them there by mistake."""
        return sum(self.others.values()) >= MANY * self.read


def spaced(count: int) -> int:
    """Every how many of the rows one is looked at."""
    return max(1, count // SAMPLE)


def mixed(rows: Sequence[tuple[int, Example]]) -> Generator[Progress, None, Mixed | None]:
    """What languages these rows are in, each with its index; None where there is one, or none that is sure."""
    names = yield from _told(rows, "answer")
    part: Part = "answer"
    if sum(map(bool, names)) < len(rows) / 2:
        part, names = "row", (yield from _told(rows, "row"))
    return counted(part, [index for index, _ in rows], names)


def counted(part: Part, rows: Sequence[int], names: Sequence[str]) -> Mixed | None:
    """The same from the name of each row's language, empty where it is not sure."""
    often = Counter(filter(None, names)).most_common()
    others = {name: count for name, count in often[1:] if count >= max(FEW, SHARE * len(rows))}
    if not others:
        return None
    return Mixed(part, often[0][0], others, [row for row, name in zip(rows, names, strict=True) if name in others], len(rows))


def _told(rows: Sequence[tuple[int, Example]], part: Part) -> Generator[Progress, None, list[str]]:
    names = list[str]()
    for _, example in rows:
        if len(names) % CALM == 0:
            yield Progress(len(names), len(rows), "languages told")
        names.append(told(part_of(example, part)))
    return names
