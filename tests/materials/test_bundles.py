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
