"""A folder, a .zip and several files are one data set: what belongs to it, what is told of it, and what cannot harm."""

import json
import zipfile
from pathlib import Path

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Progress
from workbench.core.job import drain
from workbench.core.workspace import Workspace
from workbench.jobs.ingest import ingest
from workbench.materials.bundles import is_bundle, members
from workbench.materials.corpus import load
from workbench.materials.kept import read_about
from workbench.materials.records import SAVED_PARTS, SAVED_SET


def lines(*answers: str, ask: str = "prompt", say: str = "completion") -> str:
    return "".join(json.dumps({ask: f"ask {answer}", say: answer}) + "\n" for answer in answers)


def folder(path: Path, **files: str) -> Path:
    for name, content in files.items():
        place = path / name.replace("__", "/").replace("_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    return path


def zipped(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return path


def answers(name: str, workspace: Workspace, **columns: str) -> list[str]:
    return [row.answer() for row in load(name, workspace, columns).examples]


def test_files_of_a_folder_are_read_in_the_order_of_their_names_and_each_row_knows_its_file(workspace: Workspace, tmp_path: Path) -> None:
    given = folder(tmp_path / "set", b_jsonl=lines("three"), a_jsonl=lines("one", "two"), inner__c_jsonl=lines("four"), README_md="About.")
    events = list(ingest(given, "mine", workspace))
    rows = load("mine", workspace).examples
    assert [(row.answer(), row.source, row.line) for row in rows] == [
        ("one", "a.jsonl", 1), ("two", "a.jsonl", 2), ("three", "b.jsonl", 1), ("four", "c.jsonl", 1)
    ]  # fmt: skip
    assert answers("mine", workspace, prompt="completion", answer="prompt") == ["ask one", "ask two", "ask three", "ask four"]
    copied = [event for event in events if isinstance(event, Progress) and event.what == "bytes copied"]
    assert copied[-1].done == copied[-1].total == read_about(workspace.data("mine")).bytes
    assert (given / "a.jsonl").exists(), "the originals are not touched"


def test_notes_alone_are_the_rows(workspace: Workspace, tmp_path: Path) -> None:
    drain(ingest(folder(tmp_path / "notes", a_md="# One\n\nFirst.\n", b_txt="Second.\n"), "notes", workspace))
    assert [row.text for row in load("notes", workspace).examples] == ["# One", "First.", "Second."]


def test_a_zip_is_unpacked_and_what_is_no_data_stays_out(workspace: Workspace, tmp_path: Path) -> None:
    path = zipped(tmp_path / "all.zip", x__a_jsonl=lines("one"), __MACOSX__x__a_jsonl="junk", x__b_html="<p>", x__empty_json="[]")
    drain(ingest(path, "mine", workspace))
    assert answers("mine", workspace) == ["one"]
    kept = [file.name for file in workspace.data("mine").rglob("*") if file.is_file()]
    assert sorted(kept) == ["a.jsonl", "about.yaml", "rejects.parquet", "rows.parquet"]


def test_several_files_are_one_set_and_two_of_one_name_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    first, second = folder(tmp_path / "1", a_jsonl=lines("one")), folder(tmp_path / "2", b_jsonl=lines("two"), a_jsonl=lines("three"))
    drain(ingest([second / "b.jsonl", first / "a.jsonl"], "mine", workspace))
    assert sorted(answers("mine", workspace)) == ["one", "two"]
    with pytest.raises(WorkbenchError, match="Rename"):
        drain(ingest([first / "a.jsonl", second / "a.jsonl"], "other", workspace))
    assert [path.name for path in workspace.data().iterdir()] == ["mine"]


def test_a_guess_for_some_files_names_them(workspace: Workspace, tmp_path: Path) -> None:
    given = folder(tmp_path / "set", a_jsonl=lines("one"), b_jsonl=lines("two", ask="frage", say="antwort"))
    said = [event.text for event in ingest(given, "mine", workspace) if isinstance(event, Noted)]
    assert len(said) == 1 and said[0].startswith("b.jsonl: ") and "'frage'" in said[0]
    assert not load("mine", workspace).hints[0].columns, "what holds for one file is not offered for all"


@pytest.mark.parametrize("name", ["../out.jsonl", "/tmp/out.jsonl", "x/../../out.jsonl"])
def test_nothing_leaves_the_folder_that_a_zip_is_unpacked_into(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, lines("one"))
    with pytest.raises(WorkbenchError, match="no file that can be read"):
        members(path, tmp_path / "room")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_bomb_a_damaged_zip_and_an_empty_folder_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.materials.bundles.FULL", 1000)
    for path, says in (
        (zipped(tmp_path / "bomb.zip", a_txt="a" * 10_000_000), "200 times its size"),
        (folder(tmp_path, broken_zip="PK nothing") / "broken.zip", "cannot be unpacked"),
        (folder(tmp_path / "empty", a_html="<p>"), "no file that can be read"),
    ):
        assert is_bundle(path)
        with pytest.raises(WorkbenchError, match=says):
            members(path, tmp_path / "room")


def test_a_stop_leaves_nothing_of_what_was_unpacked(workspace: Workspace, tmp_path: Path) -> None:
    work = ingest(zipped(tmp_path / "all.zip", a_jsonl=lines("one")), "mine", workspace)
    next(work)
    work.close()
    assert not list(workspace.data().iterdir())


def test_a_locked_zip_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = zipped(tmp_path / "all.zip", a_jsonl=lines("one"))
    locked = bytearray(path.read_bytes())
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # where both of a file's heads say whether it has a password
        locked[locked.index(sign) + place] |= 1
    path.write_bytes(locked)
    with pytest.raises(WorkbenchError, match="without a password"):
        members(path, tmp_path / "room")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_too_many_files_are_refused_before_they_are_unpacked(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.materials.bundles.MOST", 2)
    files = {f"{name}_jsonl": lines(name) for name in "abc"}
    path = zipped(tmp_path / "all.zip", **files) if kind == "zip" else folder(tmp_path / "all", **files)
    with pytest.raises(WorkbenchError, match=r"holds 3 files.*fewer files"):
        members(path, tmp_path / "room")
    assert not (tmp_path / "room").exists()


def test_what_other_programs_keep_beside_the_rows_is_none_of_them(tmp_path: Path) -> None:
    given = folder(tmp_path / "set", a_jsonl=lines("one"), requirements_txt="torch\n", _b_jsonl=lines("two"))
    (given / "dataset_info.json").write_text(json.dumps([{"prompt": "a", "completion": "b"}]))
    (given / "upper.ZIP").touch()
    assert [file.name for file in members(given, tmp_path / "room")] == ["a.jsonl"] and is_bundle(given / "upper.ZIP")


def test_what_datasets_saved_is_one_set_and_no_folder_of_files(tmp_path: Path) -> None:
    given = folder(tmp_path / "set", a_jsonl=lines("one"))
    assert is_bundle(given)
    for mark in (SAVED_SET, SAVED_PARTS):
        (given / mark).write_text("{}")
        assert not is_bundle(given)
        (given / mark).unlink()


def test_a_guess_for_all_files_is_told_once_and_can_be_turned(workspace: Workspace, tmp_path: Path) -> None:
    given = folder(tmp_path / "set", **{f"{name}_jsonl": lines(name, ask="frage", say="antwort") for name in "ab"})
    said = [event.text for event in ingest(given, "mine", workspace) if isinstance(event, Noted)]
    assert len(said) == 1 and ".jsonl" not in said[0]
    assert load("mine", workspace).hints[0].columns == {"prompt": "antwort", "answer": "frage"}
