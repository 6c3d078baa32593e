"""What models are measured with is found in rows to learn from: by itself, word for word in all rows, and exactly what the step drops."""

import json
import random
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from workbench.core.asking import EvaluateSpec, EvaluationSet
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import leaks, looked
from workbench.jobs.curate import look
from workbench.jobs.ingest import ingest
from workbench.jobs.issues import Issue
from workbench.jobs.paging import Wanted, page

DRAW = random.Random(0)
WORDS = [f"{first}{second}" for first in ("ba", "do", "ki", "lu", "me", "po", "ra", "su") for second in ("lan", "mer", "nit", "pos", "tar")]


def tale(words: int) -> str:
    return " ".join(DRAW.choices(WORDS, k=words))


EXAM = [tale(60) for _ in range(12)] + ["Where does Anna live now?", "Why not?"]
CLEAN = [tale(24) for _ in range(40)]


def bring(workspace: Workspace, folder: Path, name: str, questions: list[str], **more: str) -> None:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"prompt": one, "completion": f"Answer {n}.", **more}) + "\n" for n, one in enumerate(questions)))
    list(ingest(path, name, workspace))


def found(name: str, tokenizer: PreTrainedTokenizerFast, workspace: Workspace, **recipe: object) -> list[Issue]:
    issues = look(DataSpec(path=name, **recipe), tokenizer, workspace).issues
    return [issue for issue in issues if issue.kind.startswith("leaks")]


def test_a_question_of_a_test_set_is_found_however_it_is_written(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Word for word, in other case and punctuation, inside a longer row, and with a word changed; not what few words or chance share."""
    bring(workspace, tmp_path, "exam_test", EXAM)
    words = EXAM[3].split()
    planted = [
        EXAM[0], EXAM[1].upper().replace(" ", ", "), f"{tale(30)} {EXAM[2]} {tale(30)}", " ".join([*words[:30], "other", *words[31:]]),
        "WHERE does Anna live, now",
    ]  # fmt: skip
    chance = [" ".join([*EXAM[5].split()[:30], *tale(30).split()]), "Why not?", "Where does Anna live now that Tom is gone?"]
    bring(workspace, tmp_path, "rows", [*CLEAN, *planted, *chance])
    (issue,) = found("rows", pico_tokenizer, workspace)
    assert issue.kind == "leaks: exam_test" and issue.level == "watch" and issue.rows == [41, 42, 43, 44, 45]
    assert page(DataSpec(path="rows"), pico_tokenizer, workspace, Wanted(show=issue.kind)).total == 5
    step = {"method": issue.remedy, **issue.knobs}
    mended = look(DataSpec(path="rows", selectors=[step]), pico_tokenizer, workspace)
    assert mended.rows - mended.kept == issue.count, "what is found is what the step drops"
    assert not found("rows", pico_tokenizer, workspace, selectors=[step])


def test_a_clean_set_and_a_set_that_measures_itself_have_no_leak(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    bring(workspace, tmp_path, "exam_test", EXAM)
    bring(workspace, tmp_path, "exam-dev", EXAM)
    bring(workspace, tmp_path, "rows", CLEAN)
    assert not found("rows", pico_tokenizer, workspace) and not found("exam-dev", pico_tokenizer, workspace)
    assert leaks.measuring("exam-dev", workspace) == [] == leaks.measuring("known", workspace)
    assert leaks.measuring("rows", workspace) == ["exam-dev", "exam_test", "known"]


@pytest.mark.parametrize("name", ["latest", "contest", "developers", "evaluate_me_not", "protest-rows"])
def test_a_name_that_only_looks_like_a_tests_is_none(name: str, workspace: Workspace) -> None:
    assert "known" in leaks.measuring(name, workspace)


def test_a_template_that_both_sets_use_is_no_leak(workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    asks = "Please say in one short word whether this is good or bad, and nothing else at all, as you are told: {}"
    bring(workspace, tmp_path, "exam_test", [asks.format(tale(12)) for _ in range(40)])
    bring(workspace, tmp_path, "rows", [asks.format(tale(12)) for _ in range(40)])
    assert not found("rows", pico_tokenizer, workspace)


def test_what_a_run_asked_models_is_for_measuring_unless_one_learnt_from_it(workspace: Workspace, tmp_path: Path) -> None:
    def ran(number: str, spec: object) -> None:
        (workspace.run(number) / "spec.yaml").write_text(spec.to_yaml())  # type: ignore[attr-defined]

    asked = EvaluateSpec(models=["pocket"], sets=[EvaluationSet(data="quiz"), EvaluationSet(data="skill_a")])
    ran("0001", TrainSpec(data=DataSpec(path="skill_a")))
    ran("0002", asked)
    (workspace.run("0003") / "spec.yaml").write_text("kind: of no use")
    workspace.run("0004")
    assert leaks.measuring("rows", workspace) == ["known", "quiz"], "the set that was learnt from is none, though it was asked"
    assert leaks.measuring("quiz", workspace) == ["known"]


def test_a_set_that_was_deleted_since_is_left_out(workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    (workspace.run("0001") / "spec.yaml").write_text(EvaluateSpec(models=["pocket"], sets=[EvaluationSet(data="gone")]).to_yaml())
    assert not found("quickstart", pico_tokenizer, workspace)


def test_beyond_the_first_rows_word_for_word_is_still_found(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a person is told that what is nearly so was looked for in the first rows alone. A system turn hides no question."""
    monkeypatch.setattr(looked, "LOOKED", 20)
    bring(workspace, tmp_path, "exam_test", EXAM)
    near = " ".join([*EXAM[3].split()[:30], "other", *EXAM[3].split()[31:]])
    bring(workspace, tmp_path, "rows", [*CLEAN, EXAM[0], near], system="Be kind.")
    (issue,) = found("rows", pico_tokenizer, workspace)
    assert issue.rows == [41] and "in the first 20, nearly so" in issue.text


def test_the_demo_set_of_real_mistakes_holds_what_the_known_skills_ask(
    workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    (issue,) = found("messy", pico_tokenizer, workspace)
    truth = Path(__file__).parents[2] / "assets/demos/truth/messy.csv"
    flaws = {int(line): flaw for line, flaw, _ in (row.split(",") for row in truth.read_text().splitlines()[1:])}
    lines = {row.number: row.line for row in page(DataSpec(path="messy"), pico_tokenizer, workspace, Wanted(show="all"), limit=600).rows}
    assert issue.kind == "leaks: known" and {flaws[lines[row]] for row in issue.rows} == {"leaked test row"}
    assert not found("quickstart", pico_tokenizer, workspace)
