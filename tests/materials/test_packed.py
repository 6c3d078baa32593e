"""Packed files, Arrow files and folders that `datasets` saved: read by what is in them, and refused where they lead astray."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from workbench.core.errors import WorkbenchError
from workbench.materials import records
from workbench.materials.formats import read
from workbench.materials.readers import files_of
from workbench.materials.rows import Example, Reject

ROWS = [{"prompt": f"What is {number}?", "completion": f"It is {number}. é"} for number in range(2500)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
ARROW = pa.Table.from_pylist(ROWS)


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


def answers(path: Path) -> list[str]:
    rows = list(read(path))
    assert all(isinstance(row, Example) for row in rows), rows[:2]
    return [row.answer() for row in rows]


def saved(folder: Path, *tables: pa.Table) -> Path:
    """As `datasets.Dataset.save_to_disk` leaves a folder."""
    folder.mkdir()
    names = [f"data-{number:05}-of-{len(tables):05}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table, max_chunksize=300)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], "_split": "train"}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.JSONL.zst"])
def test_what_is_packed_is_told_by_its_content(name: str, pack, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pack(LINES))
    assert answers(tmp_path / name) == [row["completion"] for row in ROWS]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_damaged_pack_is_a_sentence(pack, tmp_path: Path) -> None:
    packed = bytearray(pack(LINES))
    (tmp_path / "rows.jsonl.zst").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(WorkbenchError, match=r"damaged gzip file|cannot be read|damaged"):
        list(read(tmp_path / "rows.jsonl.zst"))


def test_what_unpacks_to_more_than_anybody_packs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FULL", 1 << 20)
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROWS[0]).encode() + b"\n" + b" " * (8 << 20)))
    with pytest.raises(WorkbenchError, match=r"^bomb\.jsonl\.gz unpacks to more than 200 times its size .* unpack it yourself"):
        list(read(tmp_path / "bomb.jsonl.gz"))


def test_arrow_files_and_streams(tmp_path: Path) -> None:
    with pa.ipc.new_file(tmp_path / "rows.feather", ARROW.schema) as file:
        file.write_table(ARROW, max_chunksize=700)
    with pa.ipc.new_stream(tmp_path / "rows.arrow", ARROW.schema) as stream:
        stream.write_table(ARROW)
    for name in ("rows.feather", "rows.arrow"):
        assert answers(tmp_path / name) == [row["completion"] for row in ROWS]
        assert [row.line for row in read(tmp_path / name)] == list(range(1, len(ROWS) + 1))


def test_a_saved_folder_is_one_set_and_its_rows_are_counted_through(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", ARROW.slice(0, 1000), ARROW.slice(1000))
    assert answers(folder) == [row["completion"] for row in ROWS]
    assert [(row.source, row.line) for row in read(folder)][-1] == ("set", 2500)
    assert [path.name for path in files_of(folder)] == ["state.json", "data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def test_of_a_damaged_part_the_rows_before_it_load(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", ARROW.slice(0, 1000), ARROW.slice(1000))
    part = folder / "data-00000-of-00002.arrow"
    part.write_bytes(part.read_bytes()[:-20_000])
    rows = list(read(folder))
    (bad,) = [row for row in rows if isinstance(row, Reject)]
    assert bad.reason.startswith(f"From row {bad.line} on data-00000-of-00002.arrow is damaged") and 1 < bad.line < 1000
    assert len(rows) == bad.line + 1500


def test_folders_that_are_not_one_set_say_what_to_give(tmp_path: Path) -> None:
    several = tmp_path / "several"
    several.mkdir()
    (several / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    saved(several / "train", ARROW), saved(several / "test", ARROW)
    with pytest.raises(WorkbenchError, match=r"several holds several data sets \(test, train\)\. Give one of them, for example .*/test"):
        read_all(several)
    lacking = saved(tmp_path / "lacking", ARROW)
    (lacking / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(WorkbenchError, match=r"lacks data-00000-of-00001\.arrow, which its state\.json lists"):
        read_all(lacking)
    (lacking / "state.json").write_text("[]")
    with pytest.raises(WorkbenchError, match="does not list the set's files"):
        read_all(lacking)


def test_a_listing_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    with pa.ipc.new_stream(tmp_path / "secret.arrow", ARROW.schema) as stream:
        stream.write_table(ARROW)
    folder = saved(tmp_path / "set", ARROW)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(WorkbenchError, match=r"lacks secret\.arrow"):
        read_all(folder)


def read_all(path: Path) -> list[Example | Reject]:
    return list(read(path))
