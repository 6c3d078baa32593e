"""Where rows stand, in words that stay true: the line of the file, and not the row's number, which every step before changes."""

from collections.abc import Generator, Iterable, Sequence

from workbench.core.events import Progress
from workbench.materials.rows import Example

AT_ONCE = 1000  # rows between two signs of life


def places(examples: Sequence[Example], rows: Iterable[int]) -> Generator[Progress, None, dict[int, str]]:
    """Of each of some `rows` (numbers from 0) where it stands; one walk through the examples, up to the last that is asked for."""
    wanted, found = set(rows), dict[int, str]()
    for row, example in enumerate(examples) if wanted else ():
        if row % AT_ONCE == 0:
            yield Progress(row, len(examples), "rows looked up")
        if row in wanted:
            known = example.source and example.line
            found[row] = f"line {example.line} of {example.source}" if known else f"row {row + 1} of those that reached this step"
            if len(found) == len(wanted):
                break
    return found
