"""JSON documents in pieces: however a text is cut, the rows and the rejects are the same, and no more is held than the row at hand."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench.core.errors import WorkbenchError
from workbench.materials import documents
from workbench.materials.documents import Window, read_document
from workbench.materials.records import Record
from workbench.materials.rows import Reject

ROW = {"prompt": 'a\n"q" {b} [c]\\', "completion": "Grüße 日本", "n": 12345678, "x": [1.5e-7, {"y": [True, None]}]}
ROWS = [{**ROW, "n": 10**number} for number in range(5)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.json"


def read(path: Path, text: str) -> list[Record | Reject]:
    path.write_text(text, encoding="utf-8")
    return list(read_document(path))


def values(found: list[Record | Reject]) -> list[Any]:
    assert all(isinstance(row, Record) for row in found), found
    return [row.value for row in found if isinstance(row, Record)]


def told(found: list[Record | Reject]) -> list[tuple[Any, ...]]:
    """What a row holds and where it begins, and where and why another is none."""
    return [(row.line, row.value) if isinstance(row, Record) else (row.line, row.reason) for row in found]


def whole(value: Any, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **more)


TEXTS = {
    "a list": whole(ROWS),
    "in many lines": whole(ROWS, indent=2),
    "escaped": json.dumps(ROWS, indent=1),
    "under a key": whole({"version": [1, {"a": 2}], "data": ROWS, "end": 3}, indent=1),
    "one after another": "\n".join(whole(row, indent=1) for row in ROWS),
    "with commas": ",\n".join(map(whole, ROWS)) + ",",
    "numbers": "[1, 23, 456789, -1.25e-3, true, null, NaN]",
    "cut off": whole(ROWS, indent=1)[:-9],
    "cut in a text": whole(ROWS)[:40],
    "never closed": whole(ROWS, indent=1)[:-1],
    "followed": whole(ROWS, indent=1) + "\n]} \n [2]",
    "a quote too many": whole(ROWS, indent=1).replace("Grüße", 'Gr"ße', 1),
    "a comma too few": whole(ROWS, indent=1).replace("}\n ]", "}\n ] 5", 2),
    "broken under a key": whole({"data": ROWS}).replace("Grüße", 'Gr"ße', 1),
    "a bracket too few": whole(ROWS).replace("[c]", "", 1).replace('"x": [', '"x": ', 2),
    "nothing but blanks": " \n\n",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_where_a_text_is_cut_changes_nothing(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = told(read(path, TEXTS[name]))
    for piece in (1, 2, 3, 7, 31, 64):
        monkeypatch.setattr(documents, "PIECE", piece)
        assert told(read(path, TEXTS[name])) == expected, piece


def test_rows_say_in_which_line_they_begin_and_mistakes_in_which_column(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PIECE", 8)
    text = '[{"a": 1},\n\n  {"a": 2}, {"a": 3},\n {"a": 4, "b" 5},\n{"a": 6}]'
    found = read(path, text)
    assert [row.line for row in found] == [1, 3, 3, 4, 5]
    assert isinstance(found[3], Reject) and "line 4, column 15: expecting ':' delimiter" in found[3].reason


def test_the_first_row_is_there_before_the_second_piece_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And while the rows come, no more is held than a row and a piece: so a job that writes them down can be stopped at any time."""
    held, taken = list[int](), list[int]()
    more = Window.more

    def watched(window: Window) -> bool:
        before = len(window.text) - window.at
        found = more(window)
        held.append(len(window.text))
        taken.append(len(window.text) - before)
        return found

    monkeypatch.setattr(Window, "more", watched)
    monkeypatch.setattr(documents, "PIECE", 1000)
    path.write_text(whole([ROW] * 2000))
    rows = read_document(path)
    next(rows)
    assert sum(taken) == 1000
    assert sum(1 for _ in rows) == 1999 and max(held) < 2000 + len(whole(ROW)) and sum(taken) == path.stat().st_size - 2000 * 6


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if a row were huge from 200 characters on."""
    monkeypatch.setattr(documents, "HUGE", 200)
    monkeypatch.setattr(documents, "PIECE", 50)
    yield


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_longer_than_any_row_is_what_holds_the_rows(path: Path, indent: int | None) -> None:
    about = {"about": {"a": [[1, 2], "]} \\"], "b": "[{"}, "names": ["x" * 300], "text": "\\" * 300, "number": 123456789, "none": []}
    assert values(read(path, whole({**about, "rows": ROWS, "end": about}, indent=indent))) == ROWS
    assert values(read(path, whole({"rows": ROWS}, indent=indent))) == ROWS
    more = read(path, whole({"rows": ROWS}, indent=indent) + " []")
    assert values(more[:-1]) == ROWS and "more follows" in more[-1].reason  # type: ignore[union-attr]


@pytest.mark.usefixtures("small")
def test_a_long_object_without_one_list_of_rows_is_told(path: Path) -> None:
    for odd in ({"a": "x" * 500}, {"a": [1, 2] * 500}, {"messages": ROWS}, {"a": {"b": ROWS}}):
        (row,) = read(path, whole(odd))
        assert isinstance(row, Reject) and "huge row" in row.reason and row.excerpt
    with pytest.raises(WorkbenchError, match=r"several lists of rows \(one, two\)"):
        read(path, whole({"one": ROWS, "two": ROWS}))
    *rows, broken = read(path, whole({"one": ROWS, "two": 5}).replace('"two":', '"two"'))
    assert values(rows) == ROWS and isinstance(broken, Reject) and "Broken JSON" in broken.reason


@pytest.mark.usefixtures("small")
def test_a_row_that_is_too_long_is_passed_and_the_next_is_read(path: Path) -> None:
    for long in ({"a": '\\" ] }' * 500}, {"a": [{"b": "]"}] * 100}, "\\" * 999):
        first, bad, last = read(path, f"[{whole(ROW)},\n{whole(long)},\n\n{whole(ROW)}]")
        assert (first.line, bad.line, last.line) == (1, 2, 4) and "huge row" in bad.reason  # type: ignore[union-attr]
        assert values([first, last]) == [ROW, ROW]


def test_objects_one_after_another_may_hold_lists_of_objects(path: Path) -> None:
    """The list of the first is not taken for the rows."""
    row = {"prompt": "q", "completion": "a", "tools": [{"name": "t"}]}
    assert values(read(path, "\n".join(whole(row, indent=1) for _ in range(3)))) == [row] * 3


def test_a_window_is_told_of_its_end_once() -> None:
    window = Window(io.StringIO("  5"))
    assert window.sign() == "5" and window.value() == (5, window.at + 1) and window.whole
