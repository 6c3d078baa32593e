"""Standard tasks by lm-eval: what becomes of its results, its mistakes in words, and the real thing where it is installed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pico import make_model
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.spec import EvaluateSpec
from workbench.core.workspace import Workspace
from workbench.jobs import harness
from workbench.jobs.evaluate import STANDARD, evaluate
from workbench.jobs.inspect import NUMBERS

FOUND = {
    "results": {
        "exam": {
            "alias": "exam",
            "sample_len": 6,
            "acc,none": 0.5,
            "acc_stderr,none": 0.25,
            "exact,strict": 1,
            "exact_stderr,strict": "N/A",
        },
        "exam_part": {"acc,none": 0.75, "acc_stderr,none": float("nan")},
    },
    "n-samples": {"exam": {"original": 9, "effective": 6}},
}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for lm-eval that knows one task; what it is asked."""
    asked: list[dict[str, Any]] = []

    def simple_evaluate(**given: Any) -> dict[str, Any]:
        asked.append(given)
        if given["tasks"] == ["offline"]:
            raise ConnectionError("Couldn't reach the hub.")
        return FOUND

    def book(include_path: str | None) -> Any:
        return SimpleNamespace(own=include_path, match_tasks=lambda names: [name for name in names if name in ("exam", "offline")])

    modules = {
        "lm_eval": {"simple_evaluate": simple_evaluate},
        "lm_eval.tasks": {"TaskManager": book},
        "lm_eval.models": {},
        "lm_eval.models.huggingface": {"HFLM": lambda **given: given},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def test_each_measure_is_a_line_with_its_error_where_it_has_one(
    library: list[dict[str, Any]], pico_tokenizer: PreTrainedTokenizerFast, workspace: Workspace
) -> None:
    lines = list(harness.results(make_model(), pico_tokenizer, "exam", harness.known(["exam"], workspace), most=6, batch=2, seed=3))
    assert lines == [
        ["exam", "acc", 0.5, 0.25, 6], ["exam", "exact (strict)", 1.0, None, 6], ["exam_part", "acc", 0.75, None, None]
    ]  # fmt: skip
    (asked,) = library
    assert (asked["limit"], asked["random_seed"], asked["fewshot_random_seed"]) == (6, 3, 3)
    assert asked["model"]["max_length"] == 128 and asked["model"]["batch_size"] == 2


def test_tasks_of_the_workspace_are_known_too(library: list[dict[str, Any]], workspace: Workspace) -> None:
    assert harness.known(["exam"], workspace).own is None
    (workspace.home / "tasks").mkdir(parents=True)
    assert harness.known(["exam"], workspace).own == str(workspace.home / "tasks")


def test_mistakes_are_sentences_with_what_to_do(
    library: list[dict[str, Any]], pico_tokenizer: PreTrainedTokenizerFast, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WorkbenchError, match=r"no task called odd, strange\. .*lists them"):
        harness.known(["odd", "exam", "strange"], workspace)
    with pytest.raises(WorkbenchError, match=r"offline cannot be asked: Couldn't reach the hub\. Its rows must lie on this machine"):
        list(harness.results(make_model(), pico_tokenizer, "offline", harness.known(["offline"], workspace), 1, 1, 0))
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(WorkbenchError, match=r"is not installed\. Install it with: pip install 'finetune-workbench\[harness\]'"):
        harness.known(["exam"], workspace)


def test_a_run_of_tasks_alone_asks_nothing_else(
    library: list[dict[str, Any]], make: Callable, pico_tokenizer: PreTrainedTokenizerFast, workspace: Workspace, tmp_path: Path
) -> None:
    pico_tokenizer.save_pretrained(make("base"))
    events = list(evaluate(EvaluateSpec(models=[str(tmp_path / "base")], tasks=["exam"]), tmp_path, workspace))
    tables = {event.name: event for event in events if isinstance(event, Table)}
    assert set(tables) == {STANDARD, NUMBERS} and tables[STANDARD].columns == harness.HEAD
    assert ["base", "exam · acc", 0.5] in tables[NUMBERS].rows
    says = [event.text for event in events if isinstance(event, Noted)]
    assert says[0] == "base has 0.5 ± 0.25 of acc on exam, over 6 rows." and says[2] == "base has 0.75 of acc on exam_part."


def test_the_real_lm_eval_asks_a_task_of_the_workspace(
    make: Callable, pico_tokenizer: PreTrainedTokenizerFast, workspace: Workspace, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra harness)")
    pico_tokenizer.save_pretrained(make("base"))
    own = workspace.home / "tasks"
    own.mkdir(parents=True)
    rows = [{"question": f"Where is {number}?", "choices": ["here", "there"], "label": number % 2} for number in range(6)]
    (own / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (own / "toy.yaml").write_text(
        f"task: toy\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {own / 'rows.jsonl'}}}}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: label\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    events = list(evaluate(EvaluateSpec(models=[str(tmp_path / "base")], tasks=["toy"], most_rows=4), tmp_path, workspace))
    (line,) = next(event for event in events if isinstance(event, Table) and event.name == STANDARD).rows
    assert line[:3] == ["base", "toy", "acc"] and 0 <= line[3] <= 1 and line[5] == 4
