"""Writing files: what is read, written and read again is the same row or a refusal with its reason, in every form."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from written import CALL, chat, generated, written

from workbench.materials import table_writers
from workbench.materials.readback import same
from workbench.materials.rows import Example
from workbench.materials.table_writers import BATCH
from workbench.materials.writers import FORMS

TABLES = ("parquet", "datasets")


def one(row: Example, form: str, folder: Path) -> tuple[dict[str, Any] | None, str]:
    """(the record as it stands in the file of JSON lines, why it was refused)."""
    back, refused, _ = written([row], form, folder)
    assert len(back) + len(refused) == 1
    return json.loads((folder / "data.jsonl").read_text() or "null"), refused.get(1, "")


def as_text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def guarded(cell: str) -> str:
    return "'" + cell if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and cell not in ("-3", "-5", "") else cell


def has_room(form: str, meta: dict[str, Any], back: dict[str, Any]) -> bool:
    """Whether what came back of the other columns is all that the form has room for."""
    if form == "csv":
        return {name: value for name, value in back.items() if value} == {
            name: guarded(as_text(value)) for name, value in meta.items() if as_text(value)
        }
    return same({name: value for name, value in meta.items() if value is not None or form not in TABLES}, back)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(6))
def test_a_row_comes_back_as_it_was_or_is_refused(form: str, seed: int, tmp_path: Path) -> None:
    rows = generated(seed, (3, 40, 40, 300, 300, 2 * BATCH)[seed], tmp_path)
    back, refused, _ = written(rows, form, tmp_path)
    taken = [row for number, row in enumerate(rows, start=1) if number not in refused]
    assert len(back) == len(taken) and not (seed > 2 and not taken)
    for row, again in zip(taken, back, strict=True):
        for name in ("messages", "worse", "text", "learn"):
            assert same(vars(row)[name], vars(again)[name]), (row, again)
        assert has_room(form, row.meta, again.meta), (row.meta, again.meta)


@pytest.mark.parametrize("form", TABLES)
def test_a_table_has_room_for_rows_of_every_kind(form: str, tmp_path: Path) -> None:
    mixed = [None, 1, "a", {"b": 2}, [], 2**70]
    rows = [
        chat("Hi", "Hello", n=1, s="x", f=0.5, b=True),
        Example(text="A tale."),
        Example(text="ab", learn=((1, 2),)),
        *(chat("a", "b", m=value) for value in mixed),
    ]
    rows.append(Example(chat("a", "b").messages, worse=({"role": "assistant", "content": "c"},), meta={"n": 2**62}))
    back, refused, _ = written(rows, form, tmp_path)
    assert not refused and [row.meta.get("m") for row in back[3:9]] == mixed
    assert [row.format for row in back] == ["messages", "text", "segments", *["messages"] * 6, "preference"]


def test_other_readers_find_plain_columns(tmp_path: Path) -> None:
    rows = [chat("Hi", "Hello", n=1, f=0.5, both=1), chat("a", "b", both="x", nested={"c": [1]}, n=None)]
    written(rows, "parquet", tmp_path)
    table = pq.read_table(tmp_path / "data.parquet")
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    assert [(field.name, field.type) for field in table.schema][:3] == [
        ("messages", pa.list_(turn)),
        ("n", pa.int64()),
        ("f", pa.float64()),
    ]
    assert table["both"].to_pylist() == ["1", '"x"'] and table["nested"].to_pylist() == [None, '{"c": [1]}']


def test_a_saved_folder_is_as_datasets_leaves_it(tmp_path: Path) -> None:
    written([chat("Hi", "Hello")], "datasets", tmp_path)
    state = json.loads((tmp_path / "data" / "state.json").read_text())
    assert sorted(state) == [
        "_data_files",
        "_fingerprint",
        "_format_columns",
        "_format_kwargs",
        "_format_type",
        "_output_all_columns",
        "_split",
    ]
    with pa.memory_map(str(tmp_path / "data" / state["_data_files"][0]["filename"])) as file:
        assert pa.ipc.open_stream(file).read_all().num_rows == 1
    assert "features" not in json.loads((tmp_path / "data" / "dataset_info.json").read_text()), "datasets takes them from the Arrow file"


def test_whole_numbers_of_any_size_and_kinds_that_python_takes_for_one_are_kept_apart(tmp_path: Path) -> None:
    rows = [chat("a", "b", big=2**70, odd=value) for value in (1, True, 1.0)]
    back, refused, _ = written(rows, "parquet", tmp_path)
    assert not refused and [same(row.meta, again.meta) for row, again in zip(rows, back, strict=True)] == [True] * 3
    assert not same(1, True) and not same(1, 1.0) and not same([1], [1, 2]) and same((float("nan"),), [float("nan")])


@pytest.mark.parametrize("form", [*TABLES, "csv"])
def test_a_table_keeps_what_turns_hold_beside_what_they_say(form: str, tmp_path: Path) -> None:
    rows = [CALLED, UNLEARNT, SYSTEM, Example((PAIR[0], {**PAIR[1], "reasoning_content": "so", "name": "Bo"}))]
    back, refused, _ = written(rows, form, tmp_path)
    assert not refused and [row.messages for row in back] == [row.messages for row in rows]


def test_rows_that_are_large_go_through_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_writers, "HELD", 2000)
    rows = [chat("a", "b" * 900, n=n) for n in range(20)]
    back, refused, _ = written(rows, "parquet", tmp_path)
    assert not refused and [row.meta["n"] for row in back] == list(range(20))
    assert pq.ParquetFile(tmp_path / "data.parquet").num_row_groups == 10


# What each form says, and what it does not.

PAIR = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
LONGER = chat("Hi", "Hello", "Who?", "Me")
SYSTEM = Example(({"role": "system", "content": "Be brief."}, *PAIR))
CALLED = Example((PAIR[0], {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "1"}, PAIR[1]))
TAKEN = {"role": "assistant", "content": "I look.", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "1"}
ASKED = [{**TAKEN, "content": "I ask."}, RESULT, {**PAIR[1], "content": "No"}]
CALLED_WORSE = Example((PAIR[0], TAKEN, RESULT, PAIR[1]), worse=tuple(ASKED))
SHORT_WORSE = Example((PAIR[0], TAKEN, RESULT, PAIR[1]), worse=(PAIR[1],))
ASKED_TWICE = Example((*PAIR, *PAIR), worse=({"role": "assistant", "content": "No"}, *PAIR))
UNLEARNT = Example((PAIR[0], {**PAIR[1], "train": False}))
WORSE = Example(tuple(PAIR), worse=({"role": "assistant", "content": "No"},))
TALE, PLACES = Example(text="A tale."), Example(text="Who? Me.", learn=((5, 8),))

SAID: list[tuple[str, Example, dict[str, Any]]] = [
    ("messages", LONGER, {"messages": [*PAIR, {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me"}]}),
    ("messages", CALLED, {"messages": [dict(turn) for turn in CALLED.messages]}),
    ("messages", UNLEARNT, {"messages": [PAIR[0], {**PAIR[1], "train": False}]}),
    ("sharegpt", SYSTEM, {"conversations": [
        {"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}),
    ("alpaca", SYSTEM, {"instruction": "Hi", "input": "", "output": "Hello", "system": "Be brief."}),
    ("alpaca", chat("Hi", "Hello", n=1), {"instruction": "Hi", "input": "", "output": "Hello", "system": "", "n": 1}),
    ("prompt_completion", chat("Hi", "Hello", n=1), {"prompt": "Hi", "completion": "Hello", "n": 1}),
    ("preference", WORSE, {"prompt": PAIR[:1], "chosen": PAIR[1:], "rejected": [{"role": "assistant", "content": "No"}]}),
    ("preference", CALLED_WORSE, {"prompt": PAIR[:1], "chosen": [TAKEN, RESULT, PAIR[1]], "rejected": ASKED}),
    ("preference", SHORT_WORSE, {"prompt": PAIR[:1], "chosen": [TAKEN, RESULT, PAIR[1]], "rejected": [PAIR[1]]}),
    ("text", TALE, {"text": "A tale."}),
    ("segments", PLACES, {"segments": [{"label": False, "text": "Who? "}, {"label": True, "text": "Me."}]}),
]  # fmt: skip

UNSAID: list[tuple[str, Example, str]] = [
    ("messages", TALE, "is a plain text and no conversation"),
    ("messages", WORSE, "has a worse answer beside the better one, which only preference can say"),
    ("messages", chat("Hi", "Hello", messages=1), "has a column 'messages' of its own, which means something else in this form"),
    ("sharegpt", CALLED, "has tool calls, for which sharegpt has no place"),
    ("alpaca", LONGER, "has more than one question and its answer, which alpaca cannot say"),
    ("alpaca", UNLEARNT, "has an answer that is not learnt, for which alpaca has no place"),
    ("alpaca", chat("Hi", '[{"role": "user", "content": "x"}]'), "would not be read back: No turn of the conversation is the assistant's"),
    ("prompt_completion", SYSTEM, "has a system turn, for which prompt_completion has no place"),
    ("prompt_completion", chat("Hi", "Hello", history=[["a", "b"]]), "would be read back with other turns"),
    ("preference", ASKED_TWICE, "has answers that go over several questions"),
    ("preference", LONGER, "has no worse answer beside the better one"),
    ("text", PLACES, "says which places are learnt, which only segments can say"),
    ("text", LONGER, "is a conversation and no plain text"),
    ("text", Example(text="a", meta={"n": float("nan")}), "has a column 'n' that would not be read back as it is"),
    ("segments", Example(text="ab", learn=((0, 0), (1, 2))), "would be read back with other learnt places"),
    ("segments", TALE, "is a plain text that is learnt whole, which text can say"),
]


@pytest.mark.parametrize(("form", "row", "record"), SAID)
def test_a_form_says_a_row_in_its_own_words(form: str, row: Example, record: dict[str, Any], tmp_path: Path) -> None:
    assert one(row, form, tmp_path) == (record, "")


@pytest.mark.parametrize(("form", "row", "why"), UNSAID)
def test_what_a_form_has_no_place_for_is_refused_by_name(form: str, row: Example, why: str, tmp_path: Path) -> None:
    record, reason = one(row, form, tmp_path)
    assert record is None and reason.startswith(why)


@pytest.mark.parametrize("form", FORMS)
def test_half_a_character_and_a_huge_row_are_refused_and_the_others_are_written(form: str, tmp_path: Path) -> None:
    make: Callable[[str], Example] = {
        "preference": lambda text: Example(tuple(PAIR), worse=({"role": "assistant", "content": text},)),
        "text": lambda text: Example(text=text),
        "segments": lambda text: Example(text=text, learn=((0, 1),)),
    }.get(form, lambda text: chat("Hi", text))
    back, refused, _ = written([make("a"), make("\ud83d"), make("x" * 10_000_000), make("b")], form, tmp_path)
    assert len(back) == 2 and set(refused) == {2, 3} and refused[3].startswith("has 10 million characters or more")


# Spreadsheets.


def test_no_cell_is_a_formula_and_numbers_are_left_alone(tmp_path: Path) -> None:
    formulas = ["=1+1", "+x", "-x", "@x", "\tx", "\rx"]
    rows = [chat(text, text, note=text) for text in formulas] + [
        chat("=", "-", note="-3.5e2"),
        chat("a", "b", note=-7),
        chat("a", "b", note="a=b"),
    ]
    back, refused, told = written(rows, "csv", tmp_path)
    assert not refused and told == [
        "An apostrophe was put before 6 cells, so that no spreadsheet takes what stands there for a formula.",
        "Other columns are text in a CSV: note.",
    ]
    with (tmp_path / "data.csv").open(newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r")) and cell not in ("-3.5e2", "-7")]
    assert [row.meta["note"] for row in back] == [f"'{text}" for text in formulas] + ["-3.5e2", "-7", "a=b"]
    assert [row.messages for row in back] == [row.messages for row in rows], "what is learnt stands in JSON, and needs no apostrophe"


def test_what_is_learnt_is_never_written_with_an_apostrophe(tmp_path: Path) -> None:
    back, refused, told = written([Example(text="=1"), Example(text="one"), Example(text="-5"), Example(text="- a")], "csv", tmp_path)
    assert [row.text for row in back] == ["one", "-5"] and told == []
    assert refused == {
        1: "begins with '=', which a spreadsheet takes for a formula",
        4: "begins with '-', which a spreadsheet takes for a formula",
    }


def test_a_csv_s_header_and_long_cells_are_read_back(tmp_path: Path) -> None:
    csv.field_size_limit(131_072)  # as it is in a process that has read no table yet
    rows = [Example(text="=1", meta={"x;y;z": 1}), Example(text="one", meta={"x;y;z": 2}), Example(text="x" * 200_000)]
    back, refused, _ = written(rows, "csv", tmp_path)
    assert set(refused) == {1} and [row.meta for row in back] == [{"x;y;z": "2"}, {"x;y;z": ""}]


def test_a_csv_holds_one_kind_and_names_that_it_can_keep(tmp_path: Path) -> None:
    rows = [chat("a", "b"), TALE, chat("a", "b", **{" x": 1}), chat("a", "b", **{"=x": 1}), chat("a", "b", **{'q"; q': "1"})]
    back, refused, _ = written(rows, "csv", tmp_path)
    assert (
        set(refused) == {2, 3, 4} and "is of another kind (text) than most" in refused[2] and "a name that a CSV cannot keep" in refused[3]
    )
    assert [row.meta for row in back] == [{'q"; q': ""}, {'q"; q': "1"}]


def test_a_csv_tells_which_columns_change(tmp_path: Path) -> None:
    rows = [chat("a", "b", n=3, s="one", d="x", x=["y"], e="z"), chat("a", "b", n="3", s="two", d=None, x="w")]
    back, refused, told = written([*rows, Example(text="A tale.", meta={"s": 1})], "csv", tmp_path)
    assert set(refused) == {3} and told == ["Other columns are text in a CSV: n, d, x, e."], "what is refused changes nothing"
    assert [row.meta for row in back] == [
        {"n": "3", "s": "one", "d": "x", "x": '["y"]', "e": "z"}, {"n": "3", "s": "two", "d": "", "x": "w", "e": ""},
    ]  # fmt: skip
    many = [chat("a", "b", **{f"c{place}": 1 for place in range(23)})]
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (sentence,) = written(many, "csv", fresh)[2]
    assert sentence.endswith("c18, c19 and 3 more.")
