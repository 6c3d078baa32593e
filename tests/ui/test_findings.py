"""Findings of a data set as markup: each with its buttons, foreign text escaped, and a step's numbers as a picture."""

import html
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from transformers import PreTrainedTokenizerBase

from workbench.core.events import Table
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs import curate
from workbench.jobs.findings import Issue
from workbench.jobs.steps import Scores, Step
from workbench.ui import findings
from workbench.ui.tabs import data

COPIES = Issue("copies", "2 rows say <b>the same</b>.", "watch", 2, [4, 5], "exact_duplicates")


def seen(**given: object) -> SimpleNamespace:
    return SimpleNamespace(**given)


def test_a_finding_leads_to_its_rows_and_to_its_remedy() -> None:
    drawn = findings.issues(seen(issues=[COPIES]))
    assert 'data-pick="show:copies"' in drawn and 'data-pick="step:exact_duplicates"' in drawn
    assert "Add the step: Exact duplicates" in drawn and "<b>the same" not in drawn and '<li class="watch">' in drawn


def test_without_rows_or_a_remedy_there_is_no_button() -> None:
    assert "<button" not in findings.issues(seen(issues=[replace(COPIES, rows=[], remedy="")]))
    assert findings.issues(seen(issues=[replace(COPIES, remedy="")])).count("<button") == 1


def test_another_way_to_read_the_file_is_one_click_that_the_recipe_takes() -> None:
    """Column names may hold anything; what the button says comes back whole, and is a recipe's `columns`."""
    columns = {"prompt": 'a "b" & <c>', "answer": "d: e"}
    drawn = findings.issues(seen(issues=[Issue("x", "A guess.", "watch", 0, [], "", columns, "Turn them round")]))
    pick = html.unescape(re.search('data-pick="([^"]*)"', drawn).group(1))  # type: ignore[union-attr]
    held, *_ = data._picked({"path": "mine", "max_length": 9}, {}, gr.EventData(None, {"pick": pick}))
    assert held == {"path": "mine", "max_length": 9, "columns": columns} and "Turn them round" in drawn and "<c>" not in drawn


def test_only_steps_that_go_by_a_number_have_a_picture() -> None:
    scores = Scores("words of the answer", [0, 1, 2], [3, 0], [0, 1], (1.0,))
    drawn = findings.scores(seen(steps=[Step("Length", 3), Step("Statistic", 1, scores)]))
    assert drawn.count("<svg") == 1 and "Step 2 · Statistic · 1 row dropped" in drawn and "words of the answer" in drawn


def test_a_table_of_rejects_is_drawn_where_there_are_some_and_tells_of_those_beyond_it() -> None:
    """All that the job hands on is drawn, however much a table draws by itself; the others are in the file."""
    columns = ["line", "column", "reason", "what to do", "begins with"]
    shown = [[line, "", "Broken <JSON>.", "Mend it.", "{"] for line in range(1, 101)]
    drawn = findings.rejects(seen(rejects=Table("rejects", columns, shown), rejected=250))
    assert drawn.count("<tr>") == 101 and drawn.count("more</p>") == 1 and "and 150 more" in drawn and "<JSON>" not in drawn
    few = findings.rejects(seen(rejects=Table("rejects", columns, shown[:1]), rejected=1))
    assert few.count("<tr>") == 2 and "more</p>" not in few
    none = findings.rejects(seen(rejects=Table("rejects", columns, []), rejected=0))
    assert "<table" not in none and "<th" not in none and "more" not in none


@pytest.mark.parametrize("broken", [0, 2])
def test_the_fold_of_rejects_is_there_only_where_a_row_could_not_be_read(
    broken: int, workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerBase
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Who?", "completion": "Me."}\n' * 3 + "broken\n" * broken)
    look = curate.look(DataSpec(path=str(path)), pico_tokenizer, workspace)
    drawn = data._drawn(look, {"max_length": 64})
    (fold,) = (part for part in drawn if isinstance(part, gr.Accordion))
    assert fold.visible == bool(broken) and (not broken or "2 rows that could not be read" in fold.label)
    assert ("<table" in drawn[2]) == bool(broken)


def test_a_remedy_with_knobs_is_one_click_that_adds_the_step_with_them_once() -> None:
    """Another set to be kept apart is another step; the same one is not added again."""
    knobs = {"against": "gsm8k_test", "least": 0.5}
    issue = replace(COPIES, kind="leaks: gsm8k_test", remedy="decontamination", knobs=knobs)
    drawn = findings.issues(seen(issues=[issue]))
    assert "Add the step: Decontamination<" in drawn and issue.step == ("decontamination:against=gsm8k_test,least=0.5")
    picks = [html.unescape(one) for one in re.findall('data-pick="([^"]*)"', drawn)]
    assert picks[0] == "show:leaks: gsm8k_test"
    once, *_ = data._picked({"path": "mine"}, {}, gr.EventData(None, {"pick": picks[1]}))
    (step,) = once["selectors"]
    assert (step["method"], step["against"], step["least"], step["group"]) == ("decontamination", "gsm8k_test", 0.5, 13)
    again, *_ = data._picked(once, {}, gr.EventData(None, {"pick": picks[1]}))
    assert again == gr.skip()
    other, *_ = data._picked(once, {}, gr.EventData(None, {"pick": picks[1].replace("gsm8k", "svamp")}))
    assert [step["against"] for step in other["selectors"]] == ["gsm8k_test", "svamp_test"]
