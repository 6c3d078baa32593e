"""What a step answered comes back as it was; what is damaged counts as none."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workbench.materials import flags
from workbench.materials.rows import Example, Selection

CHANGED = Example(({"role": "user", "content": "Write to <EMAIL> é \ud83d."},), meta={"n": 2**70}, learn=((0, 2),))
GIVEN = [
    Selection([True, False, True], {1: "too short"}, [0.5, math.nan, math.inf], (0.1, 0.3), "length", {2: CHANGED}),
    Selection([True, True]),
    Selection([True, True, True], groups=[0, 1, 0]),
    Selection([]),
]


@pytest.mark.parametrize("given", GIVEN)
def test_it_comes_back_as_it_was(given: Selection, tmp_path: Path) -> None:
    flags.write(tmp_path / "a.parquet", given)
    assert repr(flags.read(tmp_path / "a.parquet")) == repr(given)  # NaN is not equal to itself
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_damaged_or_missing_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert flags.read(path) is None
    flags.write(path, GIVEN[0])
    path.write_bytes(path.read_bytes()[:-9])
    assert flags.read(path) is None


def test_two_windows_may_keep_the_same_answer_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: flags.write(tmp_path / "a.parquet", GIVEN[0]), range(40)))
    assert repr(flags.read(tmp_path / "a.parquet")) == repr(GIVEN[0]) and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_loses_no_answer(tmp_path: Path) -> None:
    flags.write(tmp_path / "gone" / "a.parquet", GIVEN[0])
    assert flags.read(tmp_path / "gone" / "a.parquet") is None


def test_the_oldest_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags, "HELD", 2)
    for name in "abc":
        flags.write(tmp_path / f"{name}.parquet", GIVEN[1])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["b", "c"]
