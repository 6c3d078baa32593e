"""Where rows stand: the line of the file, whichever row it is by now; nothing is read once all are found."""

from collections.abc import Iterator

import pytest

from workbench.core.events import Progress
from workbench.core.job import drain
from workbench.materials.places import Places, places
from workbench.materials.rows import Chosen, Example

ROWS = [Example(text="said", source="a.csv" if number < 3 else "b.jsonl", line=10 + number) for number in range(6)]


class Walked(list[Example]):
    """Rows that may be gone through and not looked up, and not beyond the last that is wanted."""

    def __iter__(self) -> Iterator[Example]:
        yield from super().__iter__()
        raise AssertionError("read to the end")

    def __getitem__(self, place: object) -> Example:  # type: ignore[override]
        raise AssertionError("looked up one by one")


def test_a_row_is_told_by_its_line_whatever_went_before() -> None:
    behind = Chosen(ROWS, [1, 4, 5])
    assert drain(places(behind, [2, 0, 2])) == {0: "line 11 of a.csv", 2: "line 15 of b.jsonl"}


def test_a_row_of_no_file_is_told_by_its_number() -> None:
    rows = [Example(text="a"), Example(text="b", source="a.csv"), Example(text="c", line=3)]
    assert drain(places(rows, range(3))) == {row: f"row {row + 1} of those that reached this step" for row in range(3)}


@pytest.mark.parametrize("wanted", [[], [0], [2, 1]])
def test_nothing_is_read_that_is_not_needed(wanted: list[int]) -> None:
    assert sorted(drain(places(Walked(ROWS), wanted))) == sorted(wanted)


def test_it_gives_signs_of_life() -> None:
    told = list(places([Example(text="a")] * 2500, [2499]))
    assert told == [Progress(done, 2500, "rows looked up") for done in (0, 1000, 2000)]


def test_noted_on_the_way_they_are_the_same() -> None:
    rows = [*ROWS, Example(text="no file"), ROWS[0]]
    noted = Places()
    for row in rows:
        noted.note(row)
    assert {row: noted[row] for row in range(8)} == drain(places(rows, range(8)))
    assert noted._names == ["a.csv", "b.jsonl", ""], "a file's name is held once, however many rows it has"
