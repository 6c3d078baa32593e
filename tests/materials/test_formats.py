"""Reading files: every format, every bad input with its sentence, and a small fuzz that nothing may crash."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.core.errors import WorkbenchError
from workbench.materials.formats import detect, read
from workbench.materials.rows import Example, Reject

PAIR = {"prompt": "2 + 2?", "completion": "4"}
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


def bring(folder: Path, name: str, content: object) -> Path:
    """A file in `folder`: bytes and text as they are, a list as JSON lines (or as one JSON value in a .json file)."""
    path = folder / name
    if isinstance(content, list):
        content = json.dumps(content, indent=1) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return path


def only(path: Path, **columns: str) -> Example | Reject:
    rows = list(read(path, columns))
    assert len(rows) == 1, rows
    return rows[0]


def said(row: Example | Reject) -> list[tuple[str, str]]:
    assert isinstance(row, Example), row
    return [(message["role"], message["content"]) for message in row.messages]


# Formats.

FORMATS = {
    "messages": {"messages": CHAT},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Hello!"},
    "prompt_completion": {"prompt": "Hi", "completion": "Hello!"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_same_conversation(name: str, tmp_path: Path) -> None:
    row = only(bring(tmp_path, "rows.jsonl", [{**FORMATS[name], "topic": 3}]))
    assert said(row) == [("user", "Hi"), ("assistant", "Hello!")]
    assert (row.format, row.source, row.line, row.meta["topic"]) == (name, "rows.jsonl", 1, 3)
    assert detect([FORMATS[name]]) == name


@pytest.mark.parametrize(
    "names", [("question", "answer"), ("input", "target"), ("query", "response"), ("instruction", "response"), ("Prompt", "Completion")]
)
def test_pairs_under_other_names(names: tuple[str, str], tmp_path: Path) -> None:
    row = only(bring(tmp_path, "rows.jsonl", [{names[0]: "Hi", names[1]: "Hello!"}]))
    assert said(row) == [("user", "Hi"), ("assistant", "Hello!")]
    assert row.format == "prompt_completion" and not row.meta


def test_text_rows_and_prose(tmp_path: Path) -> None:
    assert [row.text for row in read(bring(tmp_path, "rows.jsonl", [{"text": "A tale. "}, "Another."]))] == ["A tale. ", "Another."]
    blocks = list(read(bring(tmp_path, "tale.txt", "One\ntwo\n\n\n  three\n")))
    assert [(row.text, row.line) for row in blocks] == [("One\ntwo", 1), ("  three", 5)]
    lines = list(read(bring(tmp_path, "lines.md", "One\ntwo\n")))
    assert [(row.text, row.line) for row in lines] == [("One", 1), ("two", 2)]


def test_alpaca_has_input_system_and_history(tmp_path: Path) -> None:
    row = {"instruction": "Sort", "input": "b a", "output": "a b", "system": "Be brief.", "history": [["1?", "one"]]}
    expected = [("system", "Be brief."), ("user", "1?"), ("assistant", "one"), ("user", "Sort\nb a"), ("assistant", "a b")]
    assert said(only(bring(tmp_path, "rows.jsonl", [row]))) == expected


def test_columns_override_detection(tmp_path: Path) -> None:
    path = bring(tmp_path, "rows.csv", "q,a,prompt\nWho?,Me,no\n")
    assert said(only(path, prompt="q", answer="a")) == [("user", "Who?"), ("assistant", "Me")]
    assert only(path, text="q").text == "Who?"
    preferred = {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Hello!"}, "rejected": "No"}
    row = only(bring(tmp_path, "rows.jsonl", [preferred]), messages="conversations", answer="chosen")
    assert said(row) == [("user", "Hi"), ("assistant", "Hello!")]


def test_roles_parts_and_tool_calls(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "sum", "arguments": '{"a": 1}'}}
    turns = [
        {"role": "human", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "value": "1?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "observation", "content": "2", "tool_call_id": "7"},
        {"role": "gpt", "content": [{"type": "reasoning", "value": "easy"}, {"type": "text", "text": "2"}], "weight": 0},
    ]
    row = only(bring(tmp_path, "rows.jsonl", [{"messages": turns}]))
    assert said(row) == [("user", "1 + 1?"), ("assistant", ""), ("tool", "2"), ("assistant", "2")]
    assert row.messages[1]["tool_calls"] == [call]
    assert row.messages[3]["reasoning_content"] == "easy" and row.messages[3]["train"] is False


@pytest.mark.parametrize("value", ["007", "1.50", "2024-01-01", "true", "123456789012345678901234567890"])
def test_text_stays_text(value: str, tmp_path: Path) -> None:
    assert said(only(bring(tmp_path, "rows.csv", f"prompt,completion\nx,{value}\n")))[1] == ("assistant", value)
    assert said(only(bring(tmp_path, "rows.jsonl", [{"prompt": "x", "completion": value}])))[1] == ("assistant", value)


def test_a_number_as_an_answer_becomes_its_digits(tmp_path: Path) -> None:
    assert said(only(bring(tmp_path, "rows.jsonl", [{"input": "x", "target": 51.0}])))[1] == ("assistant", "51.0")


def test_parquet_keeps_conversations_and_leaves_invented_nulls_out(tmp_path: Path) -> None:
    calls = [[{"function": {"name": "sum", "arguments": {name: 1}}}] for name in ("a", "b")]  # one struct type for both: {a, b}
    rows = [{"messages": [CHAT[0], {**CHAT[1], "tool_calls": call}]} for call in calls]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = list(read(tmp_path / "rows.parquet"))
    assert [said(row) for row in found] == [[("user", "Hi"), ("assistant", "Hello!")]] * 2
    assert [row.messages[1]["tool_calls"] for row in found] == calls


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([PAIR, PAIR]),
        json.dumps({"version": "1", "data": [PAIR, PAIR]}, indent=2),
        json.dumps(PAIR) + "\n" + json.dumps(PAIR),
        json.dumps(PAIR, indent=2) + "\n" + json.dumps(PAIR, indent=2),
    ],
)
def test_json_as_a_list_under_a_key_or_one_after_another(content: str, tmp_path: Path) -> None:
    assert [said(row)[1][1] for row in read(bring(tmp_path, "rows.json", content))] == ["4", "4"]


def test_a_list_in_a_jsonl_file_is_read_as_a_list(tmp_path: Path) -> None:
    assert len(list(read(bring(tmp_path, "rows.jsonl", json.dumps([PAIR, PAIR], indent=1))))) == 2


def test_csv_details(tmp_path: Path) -> None:
    quoted = 'prompt;completion\r\n"a; ""b""\r\nc";d\r\n\r\ne;f\r\n'
    rows = list(read(bring(tmp_path, "rows.csv", quoted)))
    assert [said(row)[0][1] for row in rows] == ['a; "b"\r\nc', "e"]
    assert [row.line for row in rows] == [2, 5]
    assert said(only(bring(tmp_path, "rows.tsv", "prompt\tcompletion\na, b\tc\n"))) == [("user", "a, b"), ("assistant", "c")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_marked_and_utf16_files_are_read(encoding: str, tmp_path: Path) -> None:
    for name, text in (
        ("rows.jsonl", json.dumps({"prompt": "Grüße", "completion": "日本"}, ensure_ascii=False)),
        ("rows.csv", "prompt,completion\nGrüße,日本\n"),
    ):
        assert said(only(bring(tmp_path, name, text.encode(encoding)))) == [("user", "Grüße"), ("assistant", "日本")]


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    assert said(only(bring(tmp_path, "rows.jsonl.gz", gzip.compress(json.dumps(PAIR).encode())))) == [
        ("user", "2 + 2?"),
        ("assistant", "4"),
    ]


def test_what_no_tokenizer_takes_is_mended(tmp_path: Path) -> None:
    row = only(bring(tmp_path, "rows.jsonl", '{"prompt": "a\\ud83d b\\u0000", "completion": "\\ud83d\\ude00"}'))
    assert said(row) == [("user", "a\ufffd b\ufffd"), ("assistant", "😀")]


def test_rows_of_other_formats_are_read_in_their_own(tmp_path: Path) -> None:
    rows = list(read(bring(tmp_path, "rows.jsonl", [PAIR, {"text": "A tale."}, {"messages": CHAT}, {"colour": "red"}])))
    assert [row.format for row in rows[:3]] == ["prompt_completion", "text", "messages"]
    assert rows[3].reason == "No known format has the columns colour."
    assert 'columns {"prompt": "q", "answer": "a"}' in rows[3].remedy


# Bad rows: each becomes a reject, and the others load.

DEEP = "[" * 300 + "]" * 300
BAD_ROWS = {
    "broken": ('{"prompt": "a", "completion": }', "Broken JSON in line 2, column 31: expecting value."),
    "cut off": ('{"prompt": "a", "compl', "Broken JSON in line 2, column 17: unterminated string starts here."),
    "list": ("[1, 2]", "The row is a list, not an object."),
    "number": ("17", "The row is a number, not an object."),
    "null": ("null", "The row is null, not an object."),
    "deep": ('{"prompt": "a", "completion": "b", "x": ' + DEEP + "}", "The row is nested more than 100 levels deep."),
    "very deep": ("[" * 100_000, "The row is nested more than 100 levels deep."),
    "digits": ('{"prompt": ' + "9" * 5000 + "}", "The row cannot be read as JSON: "),
    "empty answer": ('{"prompt": "a", "completion": "  "}', "The answer is empty, so there is nothing to learn."),
    "no answer": ('{"prompt": "a", "completion": null}', "The answer is empty, so there is nothing to learn."),
    "empty text": ('{"text": " "}', "The text is empty."),
    "no columns": ("{}", "No known format has the columns (none)."),
    "empty conversation": ('{"messages": []}', "The conversation is empty."),
    "no assistant": (json.dumps({"messages": CHAT[:1]}), "No turn of the conversation is the assistant's, so there is nothing to learn."),
    "empty turn": (json.dumps({"messages": [CHAT[0], {"role": "assistant", "content": ""}]}), "An answer of the conversation is empty."),
    "unknown role": (json.dumps({"messages": [{"role": "alien", "content": "x"}, *CHAT]}), "Turn 1 has the unknown role 'alien'."),
    "turn": ('{"messages": ["Hi", "Hello"]}', "Turn 1 is not an object with a role and a content."),
    "messages as text": ('{"messages": "Hi"}', "The conversation is not a list of turns."),
    "image": (
        json.dumps({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}, CHAT[1]]}),
        "Turn 1 holds a part of type 'image'; only text can be learnt.",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_rejected_with_its_sentence_and_the_others_load(case: str, tmp_path: Path) -> None:
    text, reason = BAD_ROWS[case]
    path = bring(tmp_path, "rows.jsonl", f"{json.dumps(PAIR)}\n{text}\n\n{json.dumps(PAIR)}\n")
    first, bad, last = read(path)
    assert isinstance(first, Example) and isinstance(last, Example)
    assert isinstance(bad, Reject) and bad.line == 2 and bad.source == "rows.jsonl"
    assert bad.reason.startswith(reason) and bad.remedy.endswith((".", "}")) and len(bad.excerpt) <= 200


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    good = json.dumps(PAIR).encode()
    for name, content in (
        ("rows.jsonl", good + b'\n{"prompt": "caf\xe9", "completion": "b"}\n' + good),
        ("rows.csv", b"prompt,completion\ncaf\xe9,b\na,b\n"),
        ("rows.json", b"[" + good + b',\n{"prompt": "caf\xe9", "completion": "b"}]'),
        ("tale.txt", b"One\ncaf\xe9\n"),
    ):
        rows = list(read(bring(tmp_path, name, content)))
        bad = next(row for row in rows if isinstance(row, Reject))
        assert "Byte 0xE9 in line 2, character " in bad.reason and "is not UTF-8." in bad.reason
        assert "Save the file as UTF-8" in bad.remedy and "caf\\xe9" in bad.excerpt
        assert any(isinstance(row, Example) for row in rows)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "tale.txt", "rows.parquet"])
def test_a_huge_row_is_rejected_and_the_next_one_loads(name: str, tmp_path: Path) -> None:
    huge = "x" * 10_000_000
    rows = [{"text": huge}, {"text": "small"}]
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
        path = tmp_path / name
    else:
        path = bring(tmp_path, name, {"csv": f"text\n{huge}\nsmall\n", "txt": f"{huge}\nsmall\n"}.get(name[-3:], rows))
    bad, good = read(path)
    assert isinstance(bad, Reject) and bad.reason == "This is a huge row: it has 10 million characters or more."
    assert isinstance(good, Example) and good.text == "small"


def test_broken_json_in_a_list_costs_its_own_element(tmp_path: Path) -> None:
    good = json.dumps({"messages": CHAT})
    content = f'[\n{good},\n{{"messages": [{{"role": "user" "content": "x"}}, {{"role": "assistant", "content": "y"}}]}},\n{good}\n]'
    first, bad, last = read(bring(tmp_path, "rows.json", content))
    assert bad.reason == "Broken JSON in line 3, column 31: expecting ',' delimiter."
    assert (first.line, last.line) == (2, 4) and said(last) == said(first)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"[{json.dumps(PAIR)}, ", "The list is never closed: the file seems to be cut off."),
        (f"[{json.dumps(PAIR)}] []", "The list ends here, but more follows."),
        ("[" + json.dumps(PAIR) + ', {"prompt": "b', "Broken JSON in line 1, column"),
        ('{"data": [' + json.dumps(PAIR) + ', {"prompt": "b', "Broken JSON in line 1, column"),
    ],
)
def test_json_that_ends_in_the_wrong_place_says_so(content: str, reason: str, tmp_path: Path) -> None:
    good, bad = read(bring(tmp_path, "rows.json", content))
    assert isinstance(good, Example) and bad.reason.startswith(reason)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,b,c", "The row has 3 fields, but the header has 2."),
        ("a", "The row has 1 fields, but the header has 2."),
        ('"a,b', "A quote that is opened in line 2 is never closed."),
        ('"a"x,b', "The quotes in line 2 do not fit ("),
        ("a,", "The answer is empty, so there is nothing to learn."),
    ],
)
def test_a_bad_line_of_a_table_costs_itself_alone(line: str, reason: str, tmp_path: Path) -> None:
    bad, *good = read(bring(tmp_path, "rows.csv", f"prompt,completion\n{line}\n1,2\n3,4\n"))
    assert isinstance(bad, Reject) and bad.line == 2 and bad.reason.startswith(reason)
    assert [said(row)[1][1] for row in good] == ["2", "4"]


# Bad files: one sentence for the whole file.

BAD_FILES = {
    "empty": ("rows.jsonl", b"", "rows.jsonl is empty: there is no row in it."),
    "blank": ("rows.jsonl", b"\n \n", "rows.jsonl is empty: there is no row in it."),
    "empty csv": ("rows.csv", b"prompt,completion\n", "rows.csv is empty: there is no row in it."),
    "empty list": ("rows.json", b"[]", "rows.json is empty: there is no row in it."),
    "extension": ("rows.docx", b"x", "rows.docx is not a kind of file that can be read here. Save it as one of .jsonl,"),
    "parquet": ("rows.parquet", b"PAR1 nothing", "rows.parquet is not a whole Parquet file ("),
    "empty parquet": ("rows.parquet", b"", "rows.parquet is not a whole Parquet file ("),
    "gzip": ("rows.jsonl.gz", gzip.compress(b'{"text": "a"}' * 99)[:20], "rows.jsonl.gz is a damaged gzip file ("),
    "utf-16": ("rows.jsonl", b"\xff\xfe" + '{"text": "a"}'.encode("utf-16-le") + b"\x00", "rows.jsonl begins as UTF-16 but is damaged"),
    "twice": ("rows.csv", b"a,a\n1,2\n", "rows.csv has two columns called 'a'."),
    "header": ("rows.csv", b"caf\xe9,b\n1,2\n", "The header of rows.csv is not UTF-8."),
    "lists": ("rows.json", json.dumps({"train": [PAIR], "test": [PAIR]}).encode(), "rows.json holds several lists of rows (train, test)"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_sentence(case: str, tmp_path: Path) -> None:
    name, content, sentence = BAD_FILES[case]
    with pytest.raises(WorkbenchError) as caught:
        list(read(bring(tmp_path, name, content)))
    assert str(caught.value).startswith(sentence) and str(caught.value).endswith((".", ")"))


def test_a_missing_file_a_folder_and_wrong_columns_are_sentences(tmp_path: Path) -> None:
    path = bring(tmp_path, "rows.csv", "q,a\n1,2\n")
    for wrong, columns, sentence in (
        (tmp_path / "none.csv", {}, "There is no file"),
        (tmp_path, {}, f"{tmp_path} is a folder, not a data file. Give the file inside it. For example {path}."),
        (
            path,
            {"prompt": "question"},
            "rows.csv has no column 'question' (asked for as the prompt). Its columns are q, a. Choose one of them.",
        ),
        (path, {"promt": "q"}, "columns names the role 'promt', which there is not. The roles are prompt, answer,"),
    ):
        with pytest.raises(WorkbenchError) as caught:
            list(read(wrong, columns))
        assert str(caught.value).startswith(sentence)


def test_detect_names_the_columns_when_nothing_fits() -> None:
    with pytest.raises(WorkbenchError, match="None of the known formats fits the columns colour, size"):
        detect([{"colour": "red", "size": 3}])


# Laws over many files.


def mutated(rng: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        kind, at = rng.randrange(4), rng.randrange(max(1, len(data)))
        if kind == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at : at + rng.randint(1, 9)]
        elif kind == 2:
            data[at:at] = rng.choice([b'"', b"{", b"[", b"]", b"\\", b",", b"\x00", b"\xff", b"\n", b"\\ud800"])
        else:
            data[at:at] = data[max(0, at - 20) : at]
    return bytes(data)


def non_blank_lines(content: bytes) -> int:
    text = content.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    return sum(bool(line.strip()) for line in text.split("\n"))


def test_mutated_lines_are_each_a_row_or_a_reject(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [PAIR, {"text": "tale é"}, {"messages": CHAT}, {"instruction": "a", "output": "b", "n": [1, {"x": None}]}] * 3
    content = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    for _ in range(300):
        bad = mutated(rng, content)
        found = list(read(bring(tmp_path, "rows.jsonl", bad)))
        assert len(found) == non_blank_lines(bad), bad


@pytest.mark.parametrize("name", ["rows.json", "rows.csv", "tale.txt", "rows.parquet"])
def test_mutated_files_raise_nothing_but_sentences(name: str, tmp_path: Path) -> None:
    rng = random.Random(1)
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist([PAIR] * 50), tmp_path / "good.parquet")
        content = (tmp_path / "good.parquet").read_bytes()
    else:
        csv = 'prompt,completion\n"a, ""b""",c\nd,e\n' * 3
        content = {"rows.json": json.dumps([PAIR, {"messages": CHAT}] * 3, indent=1), "rows.csv": csv}.get(name, "one\n\ntwo\n").encode()
    for _ in range(200):
        path = bring(tmp_path, name, mutated(rng, content))
        try:
            assert all(isinstance(row, (Example, Reject)) for row in read(path))
        except WorkbenchError as error:
            assert str(error).count(".") > 1
