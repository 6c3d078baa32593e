"""Rows inside rows, and chats as other programs export them, are rows here; nothing that is a row already is opened."""

import json
from pathlib import Path

from workbench.materials.formats import hints, read
from workbench.materials.rows import Example, Reject


def rows_of(path: Path, value: object, **columns: str) -> list[Example | Reject]:
    path.write_text(json.dumps(value))
    return list(read(path, columns))


def test_every_try_under_an_instruction_is_a_row(tmp_path: Path) -> None:
    given = [{"id": 7, "instruction": "Add.", "instances": [{"input": "1 2", "output": "3"}, {"input": "2 2", "output": "4"}]}]
    path = tmp_path / "seeds.json"
    rows = rows_of(path, given)
    assert [(row.question(), row.answer(), row.line, row.meta) for row in rows] == [
        ("Add.\n1 2", "3", 1, {"id": 7}),
        ("Add.\n2 2", "4", 1, {"id": 7}),
    ]
    assert ["'instances'" in hint.text for hint in hints(path)] == [True]
    assert [row.answer() for row in rows_of(path, given, prompt="instruction", answer="output")] == ["3", "4"], (
        "said columns may lie inside"
    )


def test_questions_under_paragraphs_under_an_article_are_rows(tmp_path: Path) -> None:
    asked = [{"id": n, "question": f"Who {n}?", "answers": [{"text": f"Ann {n}", "answer_start": 0}]} for n in range(2)]
    given = {"data": [{"title": "Ann", "paragraphs": [{"context": "Ann was first.", "qas": asked}]}]}
    rows = rows_of(tmp_path / "squad.json", given)
    assert [row.question() for row in rows] == ["Who 0?\nAnn was first.", "Who 1?\nAnn was first."]
    assert all(row.meta["title"] == "Ann" for row in rows)


def test_notes_inside_a_row_are_no_rows(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    given = [
        {"prompt": "a", "completion": "b", "more": [{"prompt": "c", "completion": "d"}]},
        {"colour": [{"text": "red"}, {"text": "blue"}]},
    ]
    known, unknown = rows_of(tmp_path / "rows.json", given)
    assert isinstance(known, Example) and known.meta == {"more": [{"prompt": "c", "completion": "d"}]} and isinstance(unknown, Reject)
    (row,) = rows_of(tmp_path / "rows.json", [{"thread": turns}])
    assert isinstance(row, Example) and row.answer() == "b", "turns under another name are one row"


def node(role: str, text: object, parent: str, **more: object) -> dict[str, object]:
    return {"message": {"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}, **more}, "parent": parent}


def test_a_chatgpt_export_is_read_along_the_branch_that_was_said_last(tmp_path: Path) -> None:
    mapping = {
        "root": {"message": None, "parent": None},
        "s": node("system", "", "root"),
        "q": node("user", "Hi", "s"),
        "old": node("assistant", "Go away.", "q"),
        "call": node("assistant", "search(x)", "q", recipient="browser"),
        "tool": node("tool", "found", "call"),
        "new": node("assistant", "Hello!", "tool", recipient="all"),
        "q2": node("user", {"content_type": "image_asset_pointer"}, "new"),
        "a2": node("assistant", "A cat.", "q2"),
    }
    (row,) = rows_of(tmp_path / "conversations.json", [{"title": "Greeting", "mapping": mapping, "current_node": "a2"}])
    assert isinstance(row, Example) and row.meta["title"] == "Greeting"
    assert [(turn["role"], turn["content"]) for turn in row.messages] == [("user", "Hi"), ("assistant", "Hello!"), ("assistant", "A cat.")]
    mapping["s"]["parent"] = "a2"
    (ring,) = rows_of(tmp_path / "conversations.json", [{"mapping": mapping, "current_node": "a2"}])
    assert isinstance(ring, Example) and ring.messages == row.messages, "a ring ends where it began"


def test_a_claude_export_is_read(tmp_path: Path) -> None:
    chat = [{"sender": who, "text": text, "content": [{"type": "tool_use"}]} for who, text in (("human", "Hi"), ("assistant", "Hello!"))]
    (row,) = rows_of(tmp_path / "conversations.json", [{"name": "Greeting", "chat_messages": chat}])
    assert isinstance(row, Example) and (row.question(), row.answer(), row.meta) == ("Hi", "Hello!", {"name": "Greeting"})


def test_rows_three_levels_down_are_found_and_no_deeper(tmp_path: Path) -> None:
    pages = {"pages": [{"prompt": "a", "completion": "b"}]}
    (row,) = rows_of(tmp_path / "rows.json", [{"shelf": [{"books": [pages]}]}])
    assert isinstance(row, Example) and row.answer() == "b"
    (deeper,) = rows_of(tmp_path / "deeper.json", [{"house": [{"shelf": [{"books": [pages]}]}]}])
    assert isinstance(deeper, Reject)


def test_what_stands_inside_counts_before_what_stands_around_and_what_holds_no_row_is_told(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "rows.json", [{"prompt": "around", "tries": [{"prompt": "inside", "completion": "b"}]}])
    assert isinstance(row, Example) and row.question() == "inside"
    told = [{"context": "c", "qas": [{"question": "Who?", "answers": ["Ann"]}]}, {"context": "d", "qas": []}]
    known, empty = rows_of(tmp_path / "squad.json", [{"title": "t", "paragraphs": told}])
    assert isinstance(known, Example) and isinstance(empty, Reject), "a paragraph without questions is not lost without a word"


def test_only_one_object_of_several_texts_is_a_row_in_one_column(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "rows.json", [{"id": 1, "translation": {"prompt": "eins", "completion": "one"}}])
    assert isinstance(row, Example) and row.answer() == "one" and row.meta == {"id": 1}
    for other in (
        {"colour": {"text": "red"}},
        {"size": {"text": "red", "n": 3}},
        {"a": {"text": "x", "y": "z"}, "b": {"u": "v", "w": "x"}},
    ):
        (odd,) = rows_of(tmp_path / "other.json", [other])
        assert isinstance(odd, Reject), other
