"""Columns without known names are guessed, told, and can be turned; what nothing tells is not guessed; what is known is left alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from workbench.materials.formats import guess_of, hints, read
from workbench.materials.guessing import guess, headless, plain_name
from workbench.materials.rows import Example, Reject

LONG = [
    "Nothing happens to you, for the seeds pass through.",
    "They come from Kyoto, in the time of Meiji.",
    "Blue light is scattered most.",
]
SHORT = ["What happens if you eat seeds?", "Where do fortune cookies come from?", "Why is the sky blue?"]
NAMED = [
    ("Frage", "Antwort"), ("pregunta", "respuesta"), ("题目", "答案"), ("問題", "回答"), ("Q", "A"), ("query", "reply"),
    ("Question", "Best Answer"),
    ("prompt", "canonical_solution"), ("Вопрос", "Ответ"), ("domanda", "risposta"), ("pergunta", "resposta"), ("질문", "답변"),
    ("السؤال", "الجواب"),
    ("userInput", "goldAnswer"), ("Consigne", "Réponse"), ("spørsmål", "svar"), ("document", "summary"), ("Prompt Text", "Model Response"),
]  # fmt: skip


def write(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(ask: str, say: str, asks: Sequence[str] = SHORT, says: Sequence[str] = LONG) -> list[dict[str, str]]:
    return [{say: b, ask: a, "url": f"https://a.b/{n}", "id": str(n)} for n, (a, b) in enumerate(zip(asks, says, strict=True))]


@pytest.mark.parametrize(("ask", "say"), NAMED)
def test_names_in_other_words_and_languages_tell_whatever_their_order(ask: str, say: str) -> None:
    found = guess(pairs(ask, say))
    assert found and dict(found.columns) == {"prompt": ask, "answer": say}


def test_an_answer_that_is_called_wrong_and_numbers_of_rows_are_not_taken() -> None:
    rows = [
        {"question_id": n, **row, "Incorrect Answers": "no", "Correct Answers": "yes; si"}
        for n, row in enumerate(pairs("Question", "Best Answer"))
    ]
    assert guess(rows).columns == {"prompt": "Question", "answer": "Best Answer"}  # type: ignore[union-attr]
    two = [{"Wrong Answer": "no", "Model Answer": "yes", "Question": "Is it?"}]
    assert guess(two).columns == {"prompt": "Question", "answer": "Model Answer"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (pairs("left", "right"), {"prompt": "left", "answer": "right"}),
        (pairs("left", "right", LONG, LONG[::-1]), {"prompt": "right", "answer": "left"}),
        (pairs("frage", "zeile"), {"prompt": "frage", "answer": "zeile"}),
        (pairs("zeile", "antwort"), {"prompt": "zeile", "answer": "antwort"}),
        ([{"story": text, "n": 1} for text in LONG], {"text": "story"}),
        ([{"review": LONG[n % 3] * 9, "mood": "good" if n % 2 else "bad"} for n in range(40)], {"prompt": "review", "answer": "mood"}),
        ([{"thread": [{"role": "user", "content": "a"}]}], {"messages": "thread"}),
        ([{"q": "What?", "a": "That", "Context": "There."}], {"prompt": "q", "answer": "a", "input": "Context"}),
    ],
    ids=["who asks", "by order", "one name: ask", "one name: say", "one text", "classes", "turns", "context"],
)  # fmt: skip
def test_values_tell_where_names_do_not(rows: list[dict[str, object]], columns: dict[str, str]) -> None:
    found = guess_of(rows)
    assert found and dict(found.columns) == columns and found.by


@pytest.mark.parametrize(
    "rows",
    [
        [{"title": LONG[n], "body": LONG[1 - n], "note": LONG[2] * 3} for n in (0, 1)],
        [{"colour": "red", "size": 3}],
        [{"question_id": 81, "category": "writing", "turns": ["Compose a post.", "Rewrite it."]}],
        [{"prompt": "a", "completion": "b"}, {"links": LONG[0], "rechts": LONG[1]}],
        [],
    ],
    ids=["three texts", "no text", "questions alone", "a known row", "nothing"],
)
def test_what_nothing_tells_is_not_guessed(rows: list[dict[str, object]]) -> None:
    assert guess_of(rows) is None


def test_a_guess_is_told_with_the_other_way_round(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", pairs("links", "rechts"))
    (hint,) = hints(path)
    assert "guess" in hint.text and "'links'" in hint.text and "'rechts'" in hint.text and hint.offer
    assert hint.columns == {"prompt": "rechts", "answer": "links"}
    (row, *_), (turned, *_) = read(path), read(path, hint.columns)
    assert isinstance(row, Example) and isinstance(turned, Example)
    assert (row.question(), row.answer()) == (turned.answer(), turned.question()) == (SHORT[0], LONG[0])
    assert row.meta == {"url": "https://a.b/0", "id": "0"}
    assert hints(path, hint.columns) == [], "who says which is which is not told of a guess"


def test_a_class_beside_a_text_is_offered_as_the_answer(tmp_path: Path) -> None:
    rows = [{"Sentiment": "Positive" if n % 2 else "Negative", "Text": f"{LONG[n % 3]} {n}"} for n in range(40)]
    (hint,) = hints(write(tmp_path / "rows.jsonl", rows))
    assert hint.columns == {"prompt": "Text", "answer": "Sentiment"} and "2 values" in hint.text
    plain = [{"text": f"{LONG[n % 3]} {n}", "url": f"https://a.b/{n}", "timestamp": "2020-01-01T00:00:00Z"} for n in range(40)]
    assert hints(write(tmp_path / "plain.jsonl", plain)) == []


def test_a_talk_in_one_text_is_no_conversation_but_what_a_summary_is_of(tmp_path: Path) -> None:
    rows = [{"dialogue": f"Ann: {a}\nBob: {b}", "summary": "Ann asks, Bob answers."} for a, b in zip(SHORT, LONG, strict=True)]
    row = next(iter(read(write(tmp_path / "rows.jsonl", rows))))
    assert isinstance(row, Example) and row.answer() == "Ann asks, Bob answers."


def test_questions_alone_are_told_what_they_are_good_for(tmp_path: Path) -> None:
    for rows in ([{"turns": ["Compose a post.", "Rewrite it."]}], [{"prompt": "Compose a post."}]):
        (bad,) = read(write(tmp_path / "rows.jsonl", rows))
        assert isinstance(bad, Reject) and "no column holds an answer" in bad.reason and "Compare" in bad.remedy


def test_a_table_without_a_line_of_names_is_told(tmp_path: Path) -> None:
    assert headless(["What is the capital of France?", "Paris"]) and headless(["x" * 90]) and not headless(["Best Answer", "q?"])
    (tmp_path / "rows.csv").write_text('What is the capital of France?,Paris\n"And that of Spain, please?","Madrid, I am sure"\n')
    assert any("first line" in hint.text for hint in hints(tmp_path / "rows.csv"))


def test_names_are_compared_without_case_accents_and_joints() -> None:
    assert [plain_name(name) for name in ("Best Answer", "bestAnswer", " réponse-2 ", "질문", "Q.")] == [
        "best_answer", "best_answer", "reponse_2", "질문", "q"
    ]  # fmt: skip


def test_a_question_is_read_without_an_answer_where_a_column_is_said_to_be_one(tmp_path: Path) -> None:
    """Of several turns the first, with its context and its system prompt; an empty one is told. Nothing of it is learnt."""
    rows = [
        {"turns": ["Compose a post.", "Rewrite it."], "id": 7},
        {"turns": [{"role": "user", "content": "Who?"}], "by": "Be kind.", "on": "Anna"},
        {"turns": "Where?"},
        {"turns": []},
        {"id": 9},
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    first, second, third, empty, none = read(path, {"question": "turns", "system": "by", "input": "on"})
    assert isinstance(first, Example) and isinstance(second, Example) and isinstance(third, Example)
    assert (first.messages, first.format, first.meta) == (({"role": "user", "content": "Compose a post."},), "questions", {"id": 7})
    assert [turn["content"] for turn in second.messages] == ["Be kind.", "Who?\nAnna"] and third.question() == "Where?"
    assert first.answer() == "" and isinstance(empty, Reject) and isinstance(none, Reject) and "'turns'" in none.reason
