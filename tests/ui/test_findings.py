"""Findings of a data set as markup: each with its buttons, foreign text escaped, and a step's numbers as a picture."""

from dataclasses import replace
from types import SimpleNamespace

from workbench.jobs.findings import Issue
from workbench.jobs.steps import Scores, Step
from workbench.ui import findings

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


def test_only_steps_that_go_by_a_number_have_a_picture() -> None:
    scores = Scores("words of the answer", [0, 1, 2], [3, 0], [0, 1], (1.0,))
    drawn = findings.scores(seen(steps=[Step("Length", 3), Step("Statistic", 1, scores)]))
    assert drawn.count("<svg") == 1 and "Step 2 · Statistic · 1 row dropped" in drawn and "words of the answer" in drawn
