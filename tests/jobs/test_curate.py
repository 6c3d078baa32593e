"""Bringing a file in leaves all or nothing; looking and paging tell what the trainer will see."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.events import Made, Noted, Progress, Started, Table
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs import recipe
from workbench.jobs.curate import look
from workbench.jobs.ingest import COMING, REFUSED, ingest
from workbench.jobs.paging import Wanted, page
from workbench.materials import kept
from workbench.materials.corpus import load
from workbench.materials.formats import read

ROWS = [{"prompt": f"{n}?", "completion": f"It is {n}.", "n": n} for n in range(30)]


def bring(folder: Path, rows: list[object], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_ingest_keeps_the_original_the_rows_and_the_rejects(workspace: Workspace, tmp_path: Path) -> None:
    path = bring(tmp_path, [*ROWS, "broken", {"text": "a tale"}])
    before = path.read_bytes()
    events = list(ingest(path, "mine", workspace))
    folder = workspace.data("mine")
    assert isinstance(events[0], Started) and events[-1] == Made("data", str(folder))
    assert any(isinstance(event, Progress) for event in events)
    assert next(event for event in events if isinstance(event, Table)).rows[0][:3] == [
        31,
        "",
        "Broken JSON in line 31, column 1: expecting value.",
    ]
    assert path.read_bytes() == before == (folder / "original" / "rows.jsonl").read_bytes()
    about = kept.read_about(folder)
    assert (about.rows, about.rejects, about.format, about.original, about.bytes) == (31, 1, "prompt_completion", "rows.jsonl", len(before))
    fresh = list(read(path))
    assert [*kept.KeptRows(folder), *kept.read_rejects(folder)] == [*fresh[:30], fresh[31], fresh[30]]
    assert load("mine", workspace).examples == kept.KeptRows(folder)


def test_a_stop_an_error_and_a_second_try_leave_nothing_half_done(workspace: Workspace, tmp_path: Path) -> None:
    path = bring(tmp_path, ROWS)
    for steps in range(1, 4):
        work = ingest(path, "mine", workspace)
        for _ in range(steps):
            next(work)
        assert next(workspace.data().iterdir()).name.startswith(".")
        work.close()
        assert not list(workspace.data().iterdir())
    with pytest.raises(WorkbenchError, match=r"No row of bad\.jsonl can be learnt from\. No known format has the columns colour\."):
        list(ingest(bring(tmp_path, [{"colour": "red"}], "bad.jsonl"), "mine", workspace))
    assert not list(workspace.data().iterdir())
    list(ingest(path, "mine", workspace))
    with pytest.raises(WorkbenchError, match="There is a data set 'mine' already"):
        list(ingest(path, "mine", workspace))
    assert len(list(workspace.data().iterdir())) == 1


def test_of_many_rejects_the_first_are_shown_and_the_others_counted(workspace: Workspace, tmp_path: Path) -> None:
    """They go to their file batch by batch, and come from it when they are asked for."""
    path = bring(tmp_path, [*ROWS, *["broken"] * 5000])
    events = list(ingest(path, "mine", workspace))
    told = [event.what for event in events if isinstance(event, Progress) and event.what.startswith("read")]
    assert told == ["read: 30 rows, 1,970 rejects", "read: 30 rows, 3,970 rejects", "read: 30 rows, 5,000 rejects"]
    table = next(event for event in events if isinstance(event, Table))
    assert [row[0] for row in table.rows] == list(range(31, 31 + REFUSED))
    assert [event.text.split(";")[0] for event in events if isinstance(event, Noted)] == ["5,000 rows could not be read"]
    rejects = load("mine", workspace).rejects
    assert len(rejects) == kept.read_about(workspace.data("mine")).rejects == 5000 and not isinstance(rejects, list)
    assert [reject.line for reject in rejects] == list(range(31, 5031)) and rejects[2].line == 33


def test_progress_knows_its_end_only_where_the_file_tells_it(workspace: Workspace, tmp_path: Path) -> None:
    def last(name: str, content: bytes) -> tuple[int, int]:
        (tmp_path / name).write_bytes(content)
        read = [one for one in ingest(tmp_path / name, "x" + name, workspace) if isinstance(one, Progress) and one.what.startswith("read")]
        return read[-1].done, read[-1].total

    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    assert last("a.jsonl", lines) == last("b.jsonl", lines.rstrip()) == (30, 30)
    assert last("c.jsonl", gzip.compress(lines))[1] == 0 == last("d.json", json.dumps(ROWS).encode())[1]
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "whole.parquet")
    assert last("e.parquet", (tmp_path / "whole.parquet").read_bytes()) == (30, 30)


def test_what_a_killed_ingest_left_is_taken_away_by_a_later_one(workspace: Workspace, tmp_path: Path) -> None:
    killed, working = workspace.data() / f"{COMING}killed", workspace.data() / f"{COMING}working"
    for folder in (killed, working):
        (folder / "original").mkdir(parents=True)
        (folder / "original" / "rows.jsonl").write_text("half")
    for path in (killed, killed / "original", killed / "original" / "rows.jsonl", working, working / "original"):
        os.utime(path, (0, 0))  # of the one that works a file was written to a moment ago
    list(ingest(bring(tmp_path, ROWS), "mine", workspace))
    assert sorted(folder.name for folder in workspace.data().iterdir()) == [working.name, "mine"]


def test_a_name_that_is_taken_meanwhile_is_refused_and_the_first_stays(workspace: Workspace, tmp_path: Path) -> None:
    path = bring(tmp_path, ROWS)
    slow = ingest(path, "mine", workspace)
    next(slow)
    list(ingest(path, "mine", workspace))
    before = kept.read_about(workspace.data("mine"))
    with pytest.raises(WorkbenchError, match="There is a data set 'mine' already"):
        list(slow)
    assert kept.read_about(workspace.data("mine")) == before and [one.name for one in workspace.data().iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["../x", "", "a b", ".hidden"])
def test_a_name_cannot_leave_the_workspace(name: str, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="cannot be a name here"):
        list(ingest(bring(tmp_path, ROWS), name, workspace))


def test_an_unreadable_file_is_refused_before_anything_is_copied(workspace: Workspace, tmp_path: Path) -> None:
    for path, sentence in ((tmp_path / "none.jsonl", "There is no file"), (bring(tmp_path, [], "empty.csv"), "empty.csv is empty")):
        with pytest.raises(WorkbenchError, match=sentence):
            list(ingest(path, "mine", workspace))
    assert not list(workspace.data().iterdir())


def test_look_counts_what_the_trainer_will_see(workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [
        *ROWS,
        ROWS[3],
        {"prompt": "5?", "completion": "No, six."},
        "broken",
        {"text": "x <|end|> y"},
        {"prompt": "q " * 99, "completion": "a"},
    ]
    spec = DataSpec(
        path=str(bring(tmp_path, rows)), max_length=40, selectors=["exact_duplicates", {"method": "length", "fewest_answer": 2}]
    )
    found = look(spec, pico_tokenizer, workspace)
    assert (found.rows, found.kept, found.rejected, found.measured, found.sampled) == (34, 32, 1, 32, False)
    assert found.formats == {"prompt_completion": 33, "text": 1} and found.format == "prompt_completion"
    assert [(step.title, step.dropped) for step in found.steps] == [("Exact duplicates", 1), ("Length", 1)]
    assert [row[:4] for row in found.dropped.rows] == [
        [31, 31, "Exact duplicates", "says the same as line 4 of rows.jsonl"],
        [34, 35, "Length", "the answer has 1 characters, fewer than 2"],
    ]
    assert found.rejects.rows[0][2] == "Broken JSON in line 33, column 1: expecting value."
    texts = [issue.text for issue in found.issues]
    assert "1 of 35 rows could not be read. Most often: Broken JSON in line 33, column 1: expecting value." in texts
    assert any("1 row holds a control mark" in text for text in texts)
    assert any("1 row answers a question differently" in text for text in texts)
    assert found.tokens == sum(found.lengths) and found.trained == sum(found.learnt) and 0 < found.share_trained < 1


def test_look_names_rows_with_nothing_to_learn_and_what_is_cut(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = [*ROWS, {"prompt": "why " * 60, "completion": "So."}]
    found = look(DataSpec(path=str(bring(tmp_path, rows)), max_length=32), pico_tokenizer, workspace)
    assert found.nothing == [31] and found.cut == found.lengths[-1] - 32 and found.learnt[-1] == 0
    sentences = {issue.text.split(":")[0]: issue.rows for issue in found.issues}
    assert sentences["1 row holds no token to learn"] == [31]
    assert any(text.startswith("1 row is longer than 32 tokens; ") for text in sentences)
    nothing = page(DataSpec(path=str(tmp_path / "rows.jsonl"), max_length=32), pico_tokenizer, workspace, Wanted(show="nothing to learn"))
    assert [row.number for row in nothing.rows] == [31] and nothing.rows[0].trained == 0 and nothing.rows[0].cut > 0


def test_look_tells_what_became_of_the_end_of_each_answer(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [("user", "1?"), ("assistant", "It is 1."), ("user", "why " * 60), ("assistant", "So.")]
    behind = {"messages": [{"role": role, "content": text} for role, text in turns]}
    inside, nothing = {"prompt": "why?", "completion": "So " * 60}, {"prompt": "why " * 60, "completion": "So."}
    spec = DataSpec(path=str(bring(tmp_path, [*ROWS, inside, behind, nothing, {"text": "A tale."}])), max_length=32)
    found = look(spec, pico_tokenizer, workspace)
    assert (found.unfinished, found.shortened, found.nothing, found.endless) == ([31], [32], [33], [])
    assert "1 row is cut in the middle of an answer, whose end is then never learnt." in [issue.text for issue in found.issues]
    monkeypatch.setattr(pico_tokenizer, "chat_template", str(pico_tokenizer.chat_template).replace("'<|end|>'", "'. '"))
    found = look(spec, pico_tokenizer, workspace)
    assert found.endless == [*range(1, 31), 32] and found.unfinished == [31], "the text ends with the end token by itself"
    issue = next(issue for issue in found.issues if "an end mark that is learnt" in issue.text)
    assert (issue.level, issue.count) == ("watch", 31)


def test_look_measures_only_the_first_rows_of_a_big_set_and_says_so(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "MEASURED", 10)
    found = look(DataSpec(path=str(bring(tmp_path, ROWS)), max_length=8), pico_tokenizer, workspace)
    assert (found.kept, found.measured, found.sampled, len(found.lengths)) == (30, 10, True, 10)
    assert any("(of the first 10, which were counted)" in issue.text for issue in found.issues)


def test_a_template_that_refuses_rows_is_an_issue_not_a_crash(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = "{%- if '3' in messages[0].content -%}{{ raise_exception('No threes') }}{%- endif -%}" + str(pico_tokenizer.chat_template)
    monkeypatch.setattr(pico_tokenizer, "chat_template", refusing)
    spec = DataSpec(path=str(bring(tmp_path, ROWS)))
    found = look(spec, pico_tokenizer, workspace)
    assert found.issues[0].level == "act" and found.issues[0].rows == [4, 14, 24] and "No threes" in found.issues[0].text
    assert "No threes" in page(spec, pico_tokenizer, workspace, offset=3, limit=1).rows[0].problem


def test_page_gives_rows_with_their_mask(workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    spec = DataSpec(path=str(bring(tmp_path, [*ROWS, ROWS[0]])), selectors=["exact_duplicates"])
    second = page(spec, pico_tokenizer, workspace, offset=10, limit=10)
    assert (second.total, second.offset, [row.number for row in second.rows]) == (30, 10, list(range(11, 21)))
    row = second.rows[0]
    assert row.turns == [("user", "10?"), ("assistant", "It is 10.")]
    assert "".join(text for text, _ in row.pieces) == "<|user|>10?<|end|><|assistant|>It is 10.<|end|>"
    assert "".join(text for text, state in row.pieces if state == "trained") == "It is 10.<|end|>"
    assert row.trained == sum(state == "trained" for _, state in row.pieces)
    dropped = page(spec, pico_tokenizer, workspace, Wanted(show="dropped"))
    assert dropped.rows[0].dropped == "Exact duplicates: says the same as line 1 of rows.jsonl"
    assert page(spec, pico_tokenizer, workspace, Wanted(show="all")).total == 31
    assert [row.number for row in page(spec, pico_tokenizer, workspace, Wanted(find="IT IS 7")).rows] == [8]
    assert page(spec, pico_tokenizer, workspace, offset=99).rows == []


def test_what_is_remembered_follows_the_file(workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    spec = DataSpec(path=str(bring(tmp_path, ROWS)))
    assert look(spec, pico_tokenizer, workspace).rows == 30
    bring(tmp_path, ROWS[:20])
    assert look(spec, pico_tokenizer, workspace).rows == 20
    assert look(DataSpec(path=spec.path, max_length=8), pico_tokenizer, workspace).cut > 0


def test_a_missing_data_set_is_a_sentence(workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(WorkbenchError, match="There is no data set 'nothing'"):
        look(DataSpec(path="nothing"), pico_tokenizer, workspace)


def test_a_folder_that_datasets_saved_is_kept_whole(workspace: Workspace, tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"prompt": f"What is {number}?", "completion": "It is."} for number in range(30)])
    folder = tmp_path / "saved"
    folder.mkdir()
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    list(ingest(folder, "mine", workspace))
    kept_one = workspace.data("mine") / "original" / "saved"
    assert {path.name for path in kept_one.iterdir()} == {"state.json", "data-00000-of-00001.arrow"}
    assert kept.read_about(workspace.data("mine")).bytes == sum(path.stat().st_size for path in kept_one.iterdir())
    mapped = load("mine", workspace, {"prompt": "completion", "answer": "prompt"})  # read anew from the original
    assert mapped.examples[3].answer() == "What is 3?" and len(load("mine", workspace).examples) == 30


def test_the_numbers_of_a_step_are_counted_with_its_line(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    path = tmp_path / "lengths.jsonl"
    path.write_text("".join(json.dumps({"prompt": "a", "completion": "x" * number}) + "\n" for number in range(1, 42)))
    step = {"method": "statistic", "of": "characters", "most": 21}
    (found,) = look(DataSpec(path=str(path), selectors=[step]), pico_tokenizer, workspace).steps
    assert found.dropped == 20 and found.scores is not None and found.scores.what == "characters of the answer"
    assert (found.scores.edges[0], found.scores.edges[-1], found.scores.cuts) == (1, 41, (21,))
    assert sum(found.scores.kept) == 21 and sum(found.scores.dropped) == 20 and not any(found.scores.dropped[:20])
    same = look(DataSpec(path=str(path), selectors=[{"method": "statistic", "of": "open_fence"}]), pico_tokenizer, workspace).steps[0]
    assert same.scores is not None and sum(same.scores.kept) == 41, "all have one number"
    plain = look(DataSpec(path=str(path), selectors=["length"]), pico_tokenizer, workspace).steps[0]
    assert plain.scores is None


def test_a_finding_has_its_rows_and_its_remedy(workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    path = bring(tmp_path, [*ROWS, ROWS[3], ROWS[7]])
    spec = DataSpec(path=str(path))
    (copies,) = [issue for issue in look(spec, pico_tokenizer, workspace).issues if issue.kind == "copies"]
    assert copies.rows == [len(ROWS) + 1, len(ROWS) + 2] and copies.remedy == "exact_duplicates"
    shown = page(spec, pico_tokenizer, workspace, Wanted(show="copies"))
    assert (shown.total, [row.number for row in shown.rows]) == (2, copies.rows)
    mended = DataSpec(path=str(path), selectors=[copies.remedy])
    assert not [issue for issue in look(mended, pico_tokenizer, workspace).issues if issue.kind == "copies"]
    assert page(mended, pico_tokenizer, workspace, Wanted(show="copies")).total == 0


def test_a_guess_is_a_finding_that_a_recipe_can_turn_and_take_back(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    path = bring(tmp_path, [{"frage": f"Wer ist {number}?", "antwort": f"Anna die {number}."} for number in range(30)])
    list(ingest(path, "mine", workspace))
    for name in ("mine", str(path)):
        (guess,) = [issue for issue in look(DataSpec(path=name), pico_tokenizer, workspace).issues if issue.offer]
        turned = look(DataSpec(path=name, columns=guess.columns), pico_tokenizer, workspace)
        assert page(DataSpec(path=name, columns=guess.columns), pico_tokenizer, workspace).rows[0].turns[0] == ("user", "Anna die 0.")
        (back,) = [issue for issue in turned.issues if issue.offer]
        assert not back.columns and back.level == "info", "who chose it is not warned, and can take it back"


def test_rows_that_ask_nothing_are_found(workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [
        {"instruction": "" if number % 3 == 0 else f"ask {number}", "system": "Be kind.", "output": f"say {number}"} for number in range(9)
    ]
    spec = DataSpec(path=str(bring(tmp_path, [*rows, {"text": "No question is asked in a text."}])))
    (found,) = [issue for issue in look(spec, pico_tokenizer, workspace).issues if issue.kind == "no question"]
    assert found.rows == [1, 4, 7] and found.level == "watch"
    assert [row.number for row in page(spec, pico_tokenizer, workspace, Wanted(show="no question")).rows] == [1, 4, 7]


def test_each_kind_of_finding_is_there_once(workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    for name in ("messy", "imbalanced", "quickstart"):
        kinds = [issue.kind for issue in look(DataSpec(path=name, max_length=12), pico_tokenizer, workspace).issues]
        assert len(kinds) == len(set(kinds))


def test_questions_alone_are_found_to_teach_nothing_and_sent_to_compare(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    path = bring(tmp_path, [{"prompt": f"Which town has number {number}?"} for number in range(30)])
    list(ingest(path, "prompts", workspace, {"question": "prompt"}))
    seen = look(DataSpec(path="prompts"), pico_tokenizer, workspace)
    (issue,) = [one for one in seen.issues if one.kind == "nothing to learn"]
    assert issue.level == "act" and issue.count == 30 and "Compare" in issue.text and seen.trained == 0
    assert page(DataSpec(path="prompts"), pico_tokenizer, workspace).rows[0].turns == [("user", "Which town has number 0?")]
