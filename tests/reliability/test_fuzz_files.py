"""Files of every kind, damaged by chance: nothing but sentences, and of lines each is a row or a reject.

WORKBENCH_FUZZ=10000 is the full count of files; a few hundred are enough to see whether somebody has broken something.
"""

import gzip
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import records
from workbench.materials.formats import read
from workbench.materials.rows import Example, Reject
from workbench.materials.writers import FORMS

FUZZ = int(os.environ.get("WORKBENCH_FUZZ", "600"))
"""Damaged files in all, the same number of each kind."""

CALL = [{"id": "7", "type": "function", "function": {"name": "sum", "arguments": '{"a": 1}'}}]
CHAT = [{"role": "user", "content": "Hi é 😀"}, {"role": "assistant", "content": "Hello!", "tool_calls": CALL}]
ROWS = [
    {"messages": CHAT, "topic": "a"},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}], "system": "Be brief."},
    {"instruction": "Sort", "input": "b a", "output": "a b", "history": [["1?", "one"]]},
    {"prompt": "2 + 2?", "completion": "4", "label": False, "n": [1, {"x": None}]},
    {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    {"prompt": [CHAT[0]], "chosen": [CHAT[1]], "rejected": [{"role": "assistant", "content": "no"}]},
    {"segments": [{"label": True, "text": "Who?"}, {"label": False, "text": " Me."}]},
    {"text": "A tale of two towns."},
]
LINES = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS * 2).encode()
CSV = 'prompt,completion,note\n"a, ""b""",c,\nd,"e\nf",-1\ng,h,\'x\n' * 3
EXAMPLES = [Example(tuple(CHAT), meta={"n": 1, "x": [1, "a"]}), Example(text="A tale."), Example(text="ab", learn=((1, 2),))] * 20


def in_arrow(opened: Callable[..., pa.RecordBatchFileWriter]) -> bytes:
    sink = pa.BufferOutputStream()
    with opened(sink, pa.Table.from_pylist([ROWS[0]]).schema) as file:
        file.write_table(pa.Table.from_pylist([ROWS[0]] * 40), max_chunksize=15)
    return sink.getvalue().to_pybytes()


def in_parquet(folder: Path) -> bytes:
    drain(FORMS["parquet"].write(EXAMPLES, folder / "seed.parquet", lambda *_: None))
    table, plain = pq.read_table(folder / "seed.parquet"), folder / "plain.parquet"
    pq.write_table(table, plain, row_group_size=20, compression="none")
    return plain.read_bytes()


def seeds(folder: Path) -> dict[str, bytes]:
    """A whole file of each kind by the name it goes by."""
    texts = "One\ntwo é\n\n\n  three\n\nfour\n".encode()
    return {
        "rows.jsonl": LINES,
        "rows.json": json.dumps({"data": ROWS}, indent=1).encode(),
        "list.json": json.dumps(ROWS * 2).encode(),
        "wide.jsonl": LINES.decode().encode("utf-16"),
        "rows.csv": CSV.encode(),
        "rows.tsv": CSV.replace(",", "\t").encode(),
        "tale.txt": texts,
        "lines.md": texts.replace(b"\n\n", b"\n"),
        "rows.jsonl.gz": gzip.compress(LINES, mtime=0),
        "rows.jsonl.zst": pa.Codec("zstd").compress(LINES, asbytes=True),
        "rows.parquet": in_parquet(folder),
        "rows.arrow": in_arrow(pa.ipc.new_stream),
        "rows.feather": in_arrow(pa.ipc.new_file),
    }


BITS = [b'"', b"{", b"[", b"]", b"}", b"\\", b",", b":", b"\x00", b"\xff", b"\xed\xa0\x80", b"\n", b"\r", b"\\ud800", b"\\u0000", b"null",
        b"1e999",
        b"-", b"NaN", b"[" * 300, b'{"a":' * 150, b"9" * 5000, b"\xef\xbb\xbf", b"\xff\xfe", b"'", b"\t",
        b"\xe2\x80\xa8", b"true"]  # fmt: skip


def damaged(chance: random.Random, whole: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 6])):
        kind, at = chance.randrange(6), chance.randrange(max(1, len(data)))
        if kind == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del data[at : at + chance.choice([1, 9, 100])]
        elif kind == 2:
            data[at:at] = chance.choice(BITS)
        elif kind == 3:
            data[at:at] = data[max(0, at - 40) : at] * chance.choice([1, 1, 30])
        elif kind == 4:
            data[at : at + 8] = chance.randbytes(8)
        else:
            del data[at:]
    return bytes(data)


def outcome(path: Path, columns: dict[str, str]) -> list[Example | Reject] | WorkbenchError:
    """What reading gives; anything else that is raised is the mistake that is looked for."""
    try:
        rows = list(read(path, columns))
    except WorkbenchError as error:
        assert str(error)[-1] in ".)}" and len(str(error)) > 30, error
        return error
    for row in rows:
        assert isinstance(row, (Example, Reject))
        if isinstance(row, Reject):
            assert row.reason.endswith((".", "?")) and row.remedy.endswith((".", "}")) and len(row.excerpt) <= 4 * records.EXCERPT, row
        else:
            json.dumps([row.messages, row.meta, row.worse, row.text], ensure_ascii=False).encode()  # it can be kept, shown and learnt
            assert bool(row.messages) != bool(row.text)
            assert all(0 <= start < end <= len(row.text) for start, end in row.learn)
    return rows


KINDS = ("rows.jsonl", "rows.json", "list.json", "wide.jsonl", "rows.csv", "rows.tsv", "tale.txt", "lines.md", "rows.jsonl.gz",
         "rows.jsonl.zst",
         "rows.parquet", "rows.arrow", "rows.feather", "saved")  # fmt: skip
COLUMNS = [{}, {}, {}, {"prompt": "prompt", "answer": "completion"}, {"text": "text"}, {"messages": "messages", "answer": "chosen"}]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return seeds(tmp_path_factory.mktemp("seeds"))


@pytest.mark.parametrize("name", [kind for kind in KINDS if kind != "saved"])
def test_a_damaged_file_is_rows_rejects_or_a_sentence(name: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    chance, path = random.Random(name), tmp_path / name
    path.write_bytes(whole[name])
    assert not isinstance(outcome(path, {}), WorkbenchError), "the seed is whole"
    for number in range(FUZZ // len(KINDS)):
        path.write_bytes(damaged(chance, whole[name]))
        shutil.copyfile(path, tmp_path / "last")  # what to look at when it fails
        outcome(path, COLUMNS[number % len(COLUMNS)])


def test_a_damaged_folder_of_datasets_is_rows_rejects_or_a_sentence(tmp_path: Path) -> None:
    chance, folder = random.Random("saved"), tmp_path / "saved"
    drain(FORMS["datasets"].write(EXAMPLES, folder, lambda *_: None))
    files = {path: path.read_bytes() for path in folder.iterdir()}
    for number in range(FUZZ // len(KINDS)):
        for path, content in files.items():
            path.write_bytes(content)
        hurt = chance.choice(list(files))
        hurt.write_bytes(damaged(chance, files[hurt]))
        outcome(folder, COLUMNS[number % len(COLUMNS)])


def lines_of(content: bytes) -> int:
    """Lines with something in them, as a person counts them."""
    text = content.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    return sum(bool(line.strip("\ufeff \t\n\x0b\x0c") if place == 0 else line.strip()) for place, line in enumerate(text.split("\n")))


def test_every_line_is_a_row_or_a_reject(tmp_path: Path) -> None:
    chance, path = random.Random("lines"), tmp_path / "rows.jsonl"
    for number in range(FUZZ // len(KINDS)):
        content = damaged(chance, LINES)
        path.write_bytes(content)
        found = outcome(path, {})
        by_line = (
            not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"[", b"\xff\xfe", b"\xfe\xff"))
            and content.count(b"\0") < len(content) / 4
        )
        if by_line and not isinstance(found, WorkbenchError):
            assert len(found) == lines_of(content), (number, content)


ODD = [
    None, True, False, 0, -1.5, 2**70, "", " ", "x", "[1]", "{}", '{"role": "user"}', "\ud83d", "\x00", [], {}, [None], [[]], [{}],
    {"text": ["a"]}, {"role": 1}, [{"role": "user"}], [{"type": "image"}], [{"type": "text", "text": {"a": 1}}],
    {"from": "gpt", "value": None}, "assistant", "Human: a",
]  # fmt: skip


def bent(chance: random.Random, value: object) -> object:
    """The value with something odd somewhere in it."""
    if chance.random() < 0.3 or not isinstance(value, (dict, list)) or not value:
        return chance.choice(ODD)
    if isinstance(value, list):
        place = chance.randrange(len(value))
        return [*value[:place], bent(chance, value[place]), *value[place + chance.choice([0, 1, 1, 1]) :]]
    name = chance.choice(list(value))
    other = chance.choice(["", name.upper(), "content", "text", "role", "label", "history", "prompt"]) if chance.random() < 0.15 else name
    return {**{key: item for key, item in value.items() if key != name}, other: bent(chance, value[name])}


def test_rows_with_odd_values_are_each_a_row_or_a_reject(tmp_path: Path) -> None:
    chance, path = random.Random("odd"), tmp_path / "rows.jsonl"
    for number in range(FUZZ // len(KINDS)):
        rows = [ROWS[0], *(bent(chance, chance.choice(ROWS)) for _ in range(20))]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = outcome(path, COLUMNS[number % len(COLUMNS)])
        assert isinstance(found, WorkbenchError) or len(found) == len(rows)


# What was found this way.


def test_a_list_in_the_first_line_does_not_swallow_the_lines_that_follow(tmp_path: Path) -> None:
    turns, row = json.dumps(CHAT), json.dumps(ROWS[3])
    for name in ("rows.jsonl", "rows.json"):
        (tmp_path / name).write_text(f"{turns}\n{row}\n{row}\n")
        first, *rest = read(tmp_path / name)
        assert isinstance(first, Reject) and first.reason == "The row is a list, not an object."
        assert len(rest) == 2 and all(isinstance(row, Example) for row in rest)


def test_an_arrow_file_that_lies_about_its_lengths_is_a_reject(tmp_path: Path) -> None:
    path, table = tmp_path / "rows.arrow", pa.table({"text": ["a" * 10, "b" * 10]})
    with pa.ipc.new_stream(path, table.schema) as file:
        file.write_table(table)
    ends = [struct.pack("<3i", 0, 10, end) for end in (20, 10**9)]
    assert path.read_bytes().count(ends[0]) == 1
    path.write_bytes(path.read_bytes().replace(*ends))
    (bad,) = read(tmp_path / "rows.arrow")
    assert isinstance(bad, Reject) and bad.reason.startswith("From row 1 on rows.arrow is damaged: ")
