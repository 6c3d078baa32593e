"""Rows as bubbles, table and tokens: everything of the row is there, coloured by its fate, and foreign text stays text."""

from pathlib import Path

import pytest

from workbench.jobs.columns import named_after
from workbench.jobs.paging import Page, Row
from workbench.ui import rows

NASTY = '<img src=x onerror="alert(1)">${1+1}{{value}}`'


def row(number=1, text="two", **changed):
    made = {
        "number": number,
        "mark": "0123456789ab",
        "gone": False,
        "answer": text,
        "before": text,
        "source": "a.jsonl",
        "line": 7,
        "format": "messages",
        "turns": [("user", "one"), ("assistant", text)],
        "pieces": [("one", "masked"), (" ", "masked"), (text, "trained"), ("rest", "cut")],
        "trained": 1,
        "cut": 1,
        "dropped": "",
        "problem": "",
    }
    return Row(**{**made, **changed})


@pytest.mark.parametrize("view", ["bubbles", "table", "tokens"])
def test_foreign_text_is_never_markup_or_a_template(view):
    nasty = row(text=NASTY, turns=[(NASTY, NASTY)], pieces=[(NASTY, "trained")], dropped=NASTY, problem=NASTY)
    shown = rows.drawn(Page(1, 0, [nasty]), view)
    assert "<img" not in shown and "${" not in shown and "{{" not in shown
    assert "&lt;img" in shown


@pytest.mark.parametrize("view", ["bubbles", "table", "tokens"])
def test_no_rows_is_a_sentence(view):
    assert rows.drawn(Page(0, 0, []), view).count(".") >= 1


def test_neighbours_of_one_fate_are_one_stretch_and_joined_they_are_the_row():
    shown = rows.tokens_of(row().pieces)
    assert shown.count('<span class="masked"') == shown.count('<span class="trained"') == shown.count('<span class="cut"') == 1
    assert '>one </span><span class="trained" title="learnt">two</span>' in shown


def test_a_very_long_row_is_cut_in_the_page():
    assert len(rows.tokens_of([("x" * 50_000, "trained")])) < rows.READ + 200


def test_the_reason_for_a_dropped_row_stands_with_it():
    for view in ("bubbles", "table", "tokens"):
        assert "Length: too short" in rows.drawn(Page(1, 0, [row(dropped="Length: too short")]), view)


def test_the_pager_names_the_rows_and_turns_within_them():
    first, last = rows.pager(Page(45, 0, []), 20), rows.pager(Page(45, 40, []), 20)
    assert "1 to 20 of 45" in first and 'data-pick="20"' in first and first.count("disabled") == 1
    assert "41 to 45 of 45" in last and 'data-pick="20"' in last and last.count("disabled") == 1
    assert "button" not in rows.pager(Page(20, 0, []), 20)


@pytest.mark.parametrize(
    ("path", "name"), [("/tmp/My Rows (2).jsonl.gz", "My-Rows-2"), ("a.csv", "a"), ("/x/…….json", "mine"), ("x/é.txt", "mine")]
)
def test_a_file_gives_a_name_that_can_be_one(path, name):
    assert named_after(Path(path)) == name
