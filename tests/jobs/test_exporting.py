"""Exporting leaves a whole folder or none, says what it left out, and its card says how to load it."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from written import chat, generated

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress, Started, Table
from workbench.core.words import size
from workbench.core.workspace import Workspace
from workbench.jobs.exporting import export
from workbench.materials.corpus import load
from workbench.materials.formats import read
from workbench.materials.rows import Example
from workbench.materials.writers import FORMS

ROWS = [chat(f"{n}?", f"It is {n}.", n=n, licence="mit") for n in range(1200)]
LONG = chat("Hi", "Hello", "Who?", "Me")
WHOLE = {"messages", "sharegpt", "alpaca", "prompt_completion", "parquet", "datasets", "csv"}  # forms that say all of ROWS


def run(rows: list[Example], to: Path, form: str = "messages", **about: object) -> list[Event]:
    return list(export(iter(rows), len(rows), to, form, about))


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_holds_the_rows_a_card_and_what_other_tools_want(form: str, tmp_path: Path) -> None:
    rows = {"text": [Example(text="A tale.")], "segments": [Example(text="ab", learn=((1, 2),))]}.get(form, ROWS)
    if form == "preference":
        rows = [Example(chat("a", "b").messages, worse=({"role": "assistant", "content": "c"},))]
    events = run(rows, tmp_path / "out", form)
    assert isinstance(events[0], Started) and events[-1] == Made("data", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == [tmp_path / "out"] and not [event for event in events if isinstance(event, Table)]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    factory = {"dataset_info.json"} if form in ("messages", "sharegpt", "alpaca", "prompt_completion", "text") else set()
    assert names == {FORMS[form].file, "README.md"} | factory
    back = list(read(tmp_path / "out" / FORMS[form].file))
    assert [(row.messages, row.text, row.worse) for row in back] == [(row.messages, row.text, row.worse) for row in rows]


@pytest.mark.parametrize("form", sorted(WHOLE))
def test_it_says_often_where_it_is_and_never_more_than_all(form: str, tmp_path: Path) -> None:
    progress = [event for event in run(ROWS, tmp_path / "out", form) if isinstance(event, Progress) and event.what == "rows written"]
    assert len(progress) >= 2 * FORMS[form].walks and [event.done for event in progress] == sorted(event.done for event in progress)
    assert all(0 <= event.done <= event.total == len(ROWS) * FORMS[form].walks for event in progress)


def test_what_cannot_be_said_is_counted_and_named(tmp_path: Path) -> None:
    rows = [*ROWS[:5], LONG, LONG, Example(text="A tale.", source="tales.txt", line=7)]
    events = run(rows, tmp_path / "out", "alpaca")
    (table,) = [event for event in events if isinstance(event, Table)]
    assert table.name == "refused" and table.columns == ["row", "file", "line", "why", "begins with"]
    assert table.rows[0][:4] == [6, "", 0, "has more than one question and its answer, which alpaca cannot say"]
    assert table.rows[2] == [8, "tales.txt", 7, "is a plain text and no conversation", "A tale."]
    assert [event.text for event in events if isinstance(event, Noted) and event.level == "watch"] == [
        "3 of 8 rows are left out, because they cannot be said as alpaca. "
        "Most often (2) the row has more than one question and its answer, which alpaca cannot say."
    ]
    assert "| has more than one question and its answer, which alpaca cannot say | 2 |" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("form", ["messages", "parquet", "csv"])
def test_a_stop_and_an_error_leave_nothing(form: str, tmp_path: Path) -> None:
    steps = len(run(ROWS, tmp_path / "whole", form))
    for step in range(1, steps):
        work = export(iter(ROWS), len(ROWS), tmp_path / "out", form, {})
        for _ in range(step):
            next(work)
        work.close()
        assert [path.name for path in tmp_path.iterdir()] == ["whole"], f"stopped after {step} of {steps} events"

    def broken() -> Iterator[Example]:
        yield from ROWS[:700]
        raise OSError(28, "No space left on device")

    with pytest.raises(WorkbenchError, match="out cannot be written: No space left on device"):
        list(export(broken(), len(ROWS), tmp_path / "out", form, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    run(ROWS, tmp_path / "out")
    before = (tmp_path / "out" / "data.jsonl").read_bytes()
    with pytest.raises(WorkbenchError, match=r"The folder .*out holds something already\. Choose another, or empty it first\."):
        run(ROWS, tmp_path / "out", "alpaca")
    with pytest.raises(WorkbenchError, match=r"data\.jsonl is a file, and an export is a folder"):
        run(ROWS, tmp_path / "out" / "data.jsonl")
    assert (tmp_path / "out" / "data.jsonl").read_bytes() == before
    (tmp_path / "empty").mkdir()
    run(ROWS, tmp_path / "empty")
    run(ROWS, tmp_path / "deep" / "er" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "empty", "deep"}


def test_nothing_to_write_is_a_sentence_and_no_folder(tmp_path: Path) -> None:
    for rows, form, sentence in (
        ([], "messages", r"^There is no row to export\."),
        ([], "parquet", r"^There is no row to export\."),
        ([LONG], "alpaca", r"^None of the 1 row can be said as alpaca\. The first such row has more than one question"),
        ([LONG], "csw", r"^There is no form 'csw' to export rows in\. There are: messages, sharegpt,"),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            run(rows, tmp_path / "out", form)
    assert not list(tmp_path.iterdir())


# The card.


def test_the_card_says_what_it_is_where_it_comes_from_and_how_it_is_loaded(tmp_path: Path) -> None:
    steps = ["Exact duplicates: 12 rows dropped", {"method": "length", "most": 5}]
    run([*ROWS, chat("a", "b", licence="gpl|3")], tmp_path / "out", name="My rows", steps=steps, source="mine.jsonl", seed=7, empty="")
    text = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head == {"configs": [{"config_name": "default", "data_files": "data.jsonl"}], "tags": ["finetune-workbench"]}
    digest = hashlib.sha256((tmp_path / "out" / "data.jsonl").read_bytes()).hexdigest()
    for part in (
        "# My rows", "1,201 rows, conversations as OpenAI's chat messages", "| rows written | 1,201 |",
        "| source | mine.jsonl |", "| seed | 7 |",
        "1. Exact duplicates: 12 rows dropped\n2. {\"method\": \"length\", \"most\": 5}", "| mit | 1,200 |", r"| gpl\|3 | 1 |",
        f"| `data.jsonl` | {size((tmp_path / 'out' / 'data.jsonl').stat().st_size)} | `{digest}` |",
        "python -m workbench data ingest data.jsonl --name out", "type: chat_template", "SFTTrainer",
    ):  # fmt: skip
        assert part in text, part
    assert "empty" not in text


def test_one_licence_stands_in_the_head(tmp_path: Path) -> None:
    run(ROWS, tmp_path / "out")
    assert _head(tmp_path / "out")["license"] == "mit"


@pytest.mark.parametrize("form", ["alpaca", "csv"])
def test_only_a_licence_that_all_written_rows_have_stands_in_the_head(form: str, tmp_path: Path) -> None:
    plain, both = chat("a", "b"), chat("a", "b", licence="mit", License="mit")
    for rows, licence in (([*ROWS, plain], None), ([*ROWS, both, plain], None), ([*ROWS, both], "mit")):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        run(rows, out, form)
        assert _head(out).get("license") == licence
    out, refused = tmp_path / "left", Example(text="A tale.", meta={"licence": "gpl"})
    run([*ROWS, refused, refused], out, form)
    assert _head(out)["license"] == "mit" and "| mit | 1,200 |" in (out / "README.md").read_text()
    assert "gpl" not in (out / "README.md").read_text(), "what was left out has no licence here"


def _head(folder: Path) -> dict[str, object]:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o027, 0o750)])
def test_an_export_may_be_read_by_whoever_may_read_new_folders(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        run(ROWS[:2], tmp_path / "out", "datasets")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == mode == (tmp_path / "out" / "data").stat().st_mode & 0o777
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_given_to_other_tools_parses_and_names_columns_that_there_are(form: str, tmp_path: Path) -> None:
    rows = generated(7, 300, tmp_path)
    run(rows, tmp_path / "out", form)
    text = (tmp_path / "out" / "README.md").read_text()
    for block in re.findall(r"```yaml\n(.*?)```", text, re.S):
        (entry,) = yaml.safe_load(block)["datasets"]
        assert entry["path"] == FORMS[form].file and entry["type"]
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        compile(block, "card", "exec")
        assert FORMS[form].file in block
    stub = tmp_path / "out" / "dataset_info.json"
    if stub.exists():
        (entry,) = json.loads(stub.read_text()).values()
        first = json.loads((tmp_path / "out" / entry["file_name"]).read_text().splitlines()[0])
        assert set(entry["columns"].values()) <= set(first)


def test_an_export_is_brought_in_again(workspace: Workspace, tmp_path: Path) -> None:
    run(ROWS, tmp_path / "out", "datasets")
    assert load(str(tmp_path / "out" / "data"), workspace).examples[7].meta == {"n": 7, "licence": "mit"}
