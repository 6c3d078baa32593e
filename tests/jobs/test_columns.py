"""The column mapper sees the columns of a file, whatever its kind."""

import pytest

from workbench.core.errors import WorkbenchError
from workbench.jobs.columns import Foreseen, first_turns, foreseen


def test_columns_come_in_the_order_in_which_they_first_occur(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"q": 1, "a": 2}\nbroken\n{"id": 3, "q": 4}\n', encoding="utf-8")
    assert list(foreseen(file).columns) == ["q", "a", "id"]


def test_a_table_has_its_header(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("frage,antwort\nx,y\n", encoding="utf-8")
    assert list(foreseen(file).columns) == ["frage", "antwort"]


def test_a_file_of_an_unknown_kind_is_a_sentence(tmp_path):
    file = tmp_path / "rows.exe"
    file.write_bytes(b"MZ")
    with pytest.raises(WorkbenchError):
        foreseen(file)


def test_what_would_be_made_of_a_file_is_told_before_it_is_brought(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('frage,antwort\n"Wer ist das, bitte?","Das ist Anna."\n', encoding="utf-8")
    seen = foreseen(file)
    assert seen.guess == {"prompt": "frage", "answer": "antwort"} and "guess" in seen.hints[0].text
    assert seen.turns == [("user", "Wer ist das, bitte?"), ("assistant", "Das ist Anna.")]
    assert first_turns(file, {"prompt": "antwort", "answer": "frage"})[0] == ("user", "Das ist Anna.")
    nested = tmp_path / "rows.jsonl"
    nested.write_text('{"translation": {"de": "Guten Tag, mein Herr.", "en": "Good day, dear sir."}}\n')
    assert foreseen(nested).guess == {"prompt": "de", "answer": "en"}
    assert first_turns(nested, foreseen(nested).guess)[1] == ("assistant", "Good day, dear sir.")


def test_of_what_needs_no_guess_and_of_a_zip_nothing_is_said(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n')
    assert foreseen(file).guess is None and not foreseen(file).hints
    assert foreseen(tmp_path / "any.zip") == Foreseen()


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        (['{"turns": ["Compose a post.", "Rewrite it."], "category": "x"}'], "turns"),
        (['{"id": 1, "Question": "Who?"}', '{"id": 2, "Question": "Where?"}'], "Question"),
        (['{"prompt": "Who?"}', '{"prompt": "Who?", "answer": "Anna."}'], ""),
        (['{"prompt": "Who?"}', '{"text": "A tale."}'], ""),
        (['{"prompt": ""}'], ""),
    ],
)
def test_a_list_of_prompts_is_brought_in_as_questions(tmp_path, rows, column):
    """They are filled in as such, so that one click brings them in; where any row answers, a question without an answer is a mistake."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    seen = foreseen(file)
    assert (seen.guess or {}).get("question", "") == column
    assert not column or ("Compare" in seen.hints[-1].text and len(seen.turns) == 1 and seen.turns[0][0] == "user")
