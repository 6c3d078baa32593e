"""Windows-1252 is told by its letters, and said; what is not told stays UTF-8, whose bad rows are named one by one."""

from pathlib import Path

import pytest

from workbench.materials.encodings import encoding_of
from workbench.materials.formats import hints, read
from workbench.materials.rows import Example, Reject

GERMAN = (
    "Frage;Antwort\r\nWas heißt „Käse“ auf Dänisch?;Ost – das weiß jeder Däne.\r\n"
    "Wie groß ist ein Känguru?;Etwa 1,80 m, also größer als du.\r\n"
)
CHINESE = "问题,答案\n首都在哪里？,首都在北京。\n"
RUSSIAN = "вопрос,ответ\nГде столица?,В Москве.\n"


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        (GERMAN, "cp1252", "cp1252"),
        (GERMAN.translate({ord("„"): None, ord("“"): None, ord("–"): None}), "latin-1", "cp1252"),
        (GERMAN, "utf-8", "utf-8-sig"),
        (GERMAN, "utf-16-le", "utf-16-le"),
        (CHINESE, "utf-8", "utf-8-sig"),
        (CHINESE * 9, "gb18030", "utf-8-sig"),
        (RUSSIAN * 9, "cp1251", "utf-8-sig"),
        ("caf\xe9", "latin-1", "utf-8-sig"),
        ("plain", "ascii", "utf-8-sig"),
    ],
)
def test_an_encoding_is_told_by_its_bytes(text: str, encoding: str, found: str) -> None:
    assert encoding_of(text.encode(encoding)) == found


def test_damaged_utf8_is_not_taken_for_another_encoding() -> None:
    assert encoding_of(GERMAN.encode() + b" \xe9 \xe8 \xe4 ") == "utf-8-sig"


def test_a_table_of_a_german_spreadsheet_comes_in_whole(tmp_path: Path) -> None:
    path = tmp_path / "mappe.csv"
    path.write_bytes(GERMAN.encode("cp1252"))
    rows = list(read(path))
    assert all(isinstance(row, Example) for row in rows)
    assert rows[0].question() == "Was heißt „Käse“ auf Dänisch?" and rows[1].answer() == "Etwa 1,80 m, also größer als du."  # type: ignore[union-attr]
    assert [("Windows-1252" in hint.text, "Frage" in hint.text) for hint in hints(path)] == [(True, False), (False, True)]
    path.write_bytes((CHINESE * 9).encode("gb18030"))
    with pytest.raises(Exception, match="UTF-8"):
        list(read(path))


def test_a_byte_that_the_encoding_does_not_have_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "mappe.csv"
    path.write_bytes(GERMAN.encode("cp1252") + b"Und das \x81?;Nein.\r\n")
    assert [type(row) for row in read(path)] == [Example, Example, Reject]
