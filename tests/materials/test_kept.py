"""Kept rows: the same in a loop, one by one and in slices, whatever the batches; only what is asked for is read."""

import random
from collections import Counter
from pathlib import Path

import pytest

from workbench.core.errors import WorkbenchError
from workbench.materials import kept
from workbench.materials.rows import Chosen, Example

ROWS = [
    Example(
        ({"role": "user", "content": f"é {number}"}, {"role": "assistant", "content": "yes", "train": False}),
        line=number,
        format="kto" if number % 3 else "messages",
        meta={"n": number, "of": [None, "x"]},
    )
    for number in range(25)
]
ROWS += [
    Example(text="abc", learn=((0, 1), (2, 3))),
    Example(({"role": "user", "content": "a"},), worse=({"role": "assistant", "content": "b"},)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with kept.Keeper(tmp_path) as keeper:
        for start in range(0, len(ROWS), 4):
            keeper.write(ROWS[start : start + 4])
    return tmp_path


def test_a_loop_single_rows_and_slices_give_the_same(folder: Path) -> None:
    found = kept.KeptRows(folder)
    assert list(found) == ROWS and len(found) == len(ROWS) and found == ROWS
    places = list(range(-len(ROWS), len(ROWS)))
    random.Random(0).shuffle(places)
    assert all(found[place] == ROWS[place] for place in places)
    assert found[3:17:4] == ROWS[3:17:4] and found[-2:] == ROWS[-2:] and found[40:] == []
    with pytest.raises(IndexError):
        found[len(ROWS)]


def test_formats_are_counted_and_few_batches_are_held(folder: Path) -> None:
    found = kept.KeptRows(folder)
    assert found.formats() == Counter(row.format for row in ROWS)
    for row in range(len(ROWS)):
        found[row]
    assert len(found._near) == found.HELD


def test_no_rows_are_no_rows(tmp_path: Path) -> None:
    with kept.Keeper(tmp_path):
        pass
    assert list(kept.KeptRows(tmp_path)) == [] and len(kept.KeptRows(tmp_path)) == 0


def test_a_damaged_file_is_told_in_a_sentence(folder: Path) -> None:
    rows = kept.KeptRows(folder)
    (folder / kept.ROWS).write_bytes(b"PAR1 and nothing more")
    for ask in (lambda: kept.KeptRows(folder), lambda: rows[0], lambda: list(rows)):
        with pytest.raises(WorkbenchError, match=r"is damaged: rows\.parquet cannot be read"):
            ask()


def test_chosen_rows_are_a_view() -> None:
    some = Chosen(ROWS, [1, 4, 20])
    assert list(some) == [ROWS[1], ROWS[4], ROWS[20]] and len(some) == 3 and some[1] is ROWS[4] and list(some[1:]) == [ROWS[4], ROWS[20]]
    assert list(Chosen(ROWS, [])) == []
