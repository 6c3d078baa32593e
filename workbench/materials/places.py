"""Where rows stand, in words that stay true: the line of the file, and not the row's number, which every step before changes."""

from array import array
from collections.abc import Generator, Iterable, Sequence

from workbench.core.events import Progress
from workbench.materials.rows import Example

AT_ONCE = 1000  # rows between two signs of life


class Places:
    """Where rows stand, noted while somebody walks through them anyway: a dozen bytes a row, and no second walk."""

    def __init__(self) -> None:
        self._lines, self._files = array("q"), array("I")
        self._names, self._numbers = list[str](), dict[str, int]()

    def note(self, example: Example) -> None:
        """The next row."""
        self._lines.append(example.line)
        if example.source not in self._numbers:
            self._numbers[example.source] = len(self._names)
            self._names.append(example.source)
        self._files.append(self._numbers[example.source])

    def __getitem__(self, row: int) -> str:
        return _place(row, self._names[self._files[row]], self._lines[row])


def places(examples: Sequence[Example], rows: Iterable[int]) -> Generator[Progress, None, dict[int, str]]:
    """Of each of some `rows` (numbers from 0) where it stands; one walk through the examples, up to the last that is asked for."""
    wanted, found = set(rows), dict[int, str]()
    for row, example in enumerate(examples) if wanted else ():
        if row % AT_ONCE == 0:
            yield Progress(row, len(examples), "rows looked up")
        if row in wanted:
            found[row] = _place(row, example.source, example.line)
            if len(found) == len(wanted):
                break
    return found


def _place(row: int, source: str, line: int) -> str:
    return f"line {line} of {source}" if source and line else f"row {row + 1} of those that reached this step"
