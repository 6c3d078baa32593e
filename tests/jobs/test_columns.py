"""The column mapper sees the columns of a file, whatever its kind."""

import pytest

from workbench.core.errors import WorkbenchError
from workbench.jobs.columns import columns_of


def test_columns_come_in_the_order_in_which_they_first_occur(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"q": 1, "a": 2}\nbroken\n{"id": 3, "q": 4}\n', encoding="utf-8")
    assert columns_of(file) == ["q", "a", "id"]


def test_a_table_has_its_header(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("frage,antwort\nx,y\n", encoding="utf-8")
    assert columns_of(file) == ["frage", "antwort"]


def test_a_file_of_an_unknown_kind_is_a_sentence(tmp_path):
    file = tmp_path / "rows.exe"
    file.write_bytes(b"MZ")
    with pytest.raises(WorkbenchError):
        columns_of(file)
