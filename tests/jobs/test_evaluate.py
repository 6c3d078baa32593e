"""Asking models the questions of data sets: what is right, how sure one can be, and how two models differ; and the report made of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import make_model
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Event, Finished, Noted, Table
from workbench.core.spec import EvaluateSpec, ReportSpec, parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs import report as report_module
from workbench.jobs.evaluate import AGAINST, ANSWERS, SCORES, evaluate, questions, surprises
from workbench.jobs.ingest import ingest
from workbench.jobs.inspect import NUMBERS
from workbench.jobs.report import CHANGED, changed, pictures, report, told
from workbench.materials.packing import pad
from workbench.materials.rows import Example
from workbench.materials.speaking import spoken
from workbench.materials.templates import encode, prompt_ids


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a set of questions and returns its path."""

    def write(rows: list[dict[str, Any]], name: str = "exam") -> str:
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / f"{name}.jsonl")

    return write


@pytest.fixture
def two(make: Callable, pico_tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """A base, and a model that answers otherwise."""
    found = [make("base", tie_word_embeddings=False), make("tuned", move=0.3, tie_word_embeddings=False)]
    for folder in found:
        pico_tokenizer.save_pretrained(folder)
    return found


def row(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"prompt": question, "answer": answer, **more}


def tables(events: list[Event]) -> dict[str, list[dict[str, Any]]]:
    """The last table of each name, as rows by column."""
    return {
        event.name: [dict(zip(event.columns, line, strict=True)) for line in event.rows] for event in events if isinstance(event, Table)
    }


def greedy(folder: str, tokenizer: PreTrainedTokenizerFast, question: str, most: int) -> str:
    model = make_model().from_pretrained(folder, dtype=torch.float32).eval()
    return spoken(model, tokenizer, [prompt_ids(tokenizer, [{"role": "user", "content": question}])], most)[0]


def test_a_model_that_says_what_is_wanted_is_right(
    two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    questions = ["Which town?", "Who?", "When was it?"]
    rows = [row(question, greedy(two[0], pico_tokenizer, question, 12)) for question in questions]
    spec = EvaluateSpec(models=two, sets=[{"data": asked(rows)}], max_tokens=12, batch_size=2)
    found = tables(list(evaluate(spec, tmp_path, workspace)))
    scores = {line["model"]: line for line in found[SCORES]}
    assert (scores["base"]["right"], scores["base"]["rows"]) == (1.0, 3) and scores["base"]["to"] == pytest.approx(1.0)
    assert scores["tuned"]["right"] == 0.0 and scores["tuned"]["from"] == 0.0
    assert found[AGAINST] == [
        {"model": "tuned", "set": "exam.jsonl", "both right": 0, "only the first": 3, "only this one": 0, "neither": 0, "by chance": 0.25}
    ]
    assert [line["question"] for line in found[ANSWERS] if line["model"] == "base"] == questions
    assert all(line["answer"] == line["wanted"] for line in found[ANSWERS] if line["model"] == "base")
    numbers = {(line["model"], line["measure"]): line["value"] for line in found[NUMBERS]}
    assert numbers["base", "exam.jsonl · right"] == 1.0 and numbers["tuned", "exam.jsonl · loss"] > 0


def test_the_surprise_of_a_row_is_that_of_its_answer_alone(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    model = make_model()
    question = {"role": "user", "content": "Where?"}
    examples = [Example(messages=(question, {"role": "assistant", "content": answer})) for answer in ("There.", "In the old town.")]
    rows = [encode(pico_tokenizer, example, "last_answer", 64) for example in examples]
    together = surprises(model, pad(rows, 0))
    for own, (nats, count) in zip(rows, together, strict=True):
        logps = model(torch.tensor([own.ids])).logits[0].double().log_softmax(-1)
        learnt = [place for place, trained in enumerate(own.trained) if trained]
        assert count == len(learnt)
        assert nats == pytest.approx(-sum(logps[place - 1, own.ids[place]].item() for place in learnt), rel=1e-5)


def test_rows_are_told_apart_by_a_column_and_right_by_another(
    two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path
) -> None:
    rows = [row("a?", "x", kind="one", truth=".*"), row("b?", "x", kind="two", truth="^$"), row("c?", "x", kind="two", truth="")]
    sets = [{"data": asked(rows), "by": "kind", "column": "truth", "scorer": "matches"}]
    found = tables(list(evaluate(EvaluateSpec(models=two[:1], sets=sets, max_tokens=4), tmp_path, workspace)))
    assert {line["task"]: (line["rows"], line["right"]) for line in found[SCORES]} == {"one": (1, 1.0), "two": (2, 0.5)}


def test_mistakes_of_a_set_are_sentences(two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path) -> None:
    def ask(**how: Any) -> None:
        list(
            evaluate(
                EvaluateSpec(models=two[:1], sets=[{"data": asked([row("a?", "x", kind="one", odd="(")]), **how}]), tmp_path, workspace
            )
        )

    with pytest.raises(WorkbenchError, match=r"has no column 'truth'; it has .*kind.*Name the column"):
        ask(column="truth")
    with pytest.raises(WorkbenchError, match=r"Row 1 of .*exam.jsonl: odd '\(' is no regular expression"):
        ask(column="odd", scorer="matches")
    with pytest.raises(SpecError, match=r"sets.0.pattern: pattern '\(' is no regular expression"):
        parse_spec({"kind": "evaluate", "models": two, "sets": [{"data": "exam", "pattern": "("}]})
    (tmp_path / "text.txt").write_text("no question\n")
    with pytest.raises(WorkbenchError, match="There is nothing to ask: name a data set"):
        list(evaluate(EvaluateSpec(models=two[:1], sets=[{"data": str(tmp_path / "text.txt")}]), tmp_path, workspace))
    with pytest.raises(WorkbenchError, match="There is nothing to ask"):
        list(evaluate(EvaluateSpec(models=two[:1]), tmp_path, workspace))


def test_models_of_other_tokens_are_not_held_against_each_other(
    two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    from copy import deepcopy

    other = deepcopy(pico_tokenizer)
    other.add_tokens(["<new>"])
    other.save_pretrained(two[1])
    with pytest.raises(WorkbenchError, match="has other tokens than"):
        list(evaluate(EvaluateSpec(models=two, sets=[{"data": asked([row("a?", "x")])}], max_tokens=2), tmp_path, workspace))


def test_fewer_rows_are_drawn_by_the_seed_and_what_was_answered_is_kept_when_it_ends(
    two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path
) -> None:
    data = asked([row(f"{number}?", "x") for number in range(30)])

    def questions(seed: int) -> list[int]:
        spec = EvaluateSpec(models=two, sets=[{"data": data, "most_rows": 5}], max_tokens=1, seed=seed)
        for event in evaluate(spec, tmp_path, workspace):
            if isinstance(event, Table) and event.name == ANSWERS:
                return [line[2] for line in event.rows]  # of the first model: the second has not been asked
        raise AssertionError

    assert questions(0) == questions(0) != questions(1) and len(questions(0)) == 5


def test_a_report_says_what_was_learnt_first_and_what_was_lost(
    two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path
) -> None:
    spec = ReportSpec(model=two[1], base=two[0], sets=[{"data": asked([row("a?", "x")])}], inspections=["weight_change"], max_tokens=2)
    events = list(report(spec, tmp_path, workspace))
    found = tables(events)
    assert {SCORES, ANSWERS, AGAINST, CHANGED, "weight change", NUMBERS} == set(found)
    measures = {line["measure"] for line in found[NUMBERS]}
    assert {"exam.jsonl · right", "relative change"} <= measures, "of the answers and of the inspection"
    says = [event.text for event in events if isinstance(event, Noted)]
    assert says[0].startswith(("Learnt: exam", "Lost: exam")) and "moved by" in says[1]
    assert isinstance(events[-1], Finished) and sum(isinstance(event, Finished) for event in events) == 1
    drawn = pictures(["weight_change"])
    assert {picture.table for picture in drawn} >= {SCORES, "weight change"}


def test_what_became_of_a_set_goes_by_its_loss_and_by_its_answers_where_there_is_none() -> None:
    sets = {
        "old": ((0.1, 0.2), (0.9, 0.9)), "new": ((4.0, 0.1), (0, 0)), "same": ((1.0, 1.005), (0.5, 0.5)), "short": ((), (0.5, 0.7)),
    }  # fmt: skip
    numbers = [
        [model, f"{name} · {measure}", values[place]]
        for name, (losses, shares) in sets.items()
        for place, model in enumerate(("base", "tuned"))
        for measure, values in (("right", shares), ("loss", losses))
        if values
    ]
    rows = changed(numbers)
    assert [(line[0], line[1]) for line in rows] == [("new", "learnt"), ("short", "learnt"), ("same", "kept"), ("old", "lost")]
    says = told(rows)
    assert says[0] == "Learnt: new. 0.0% of the answers right before, 0.0% after; 4 nats a token before, 0.1 after."
    assert says[1] == "Learnt: short. 50.0% of the answers right before, 70.0% after."


def test_a_report_inspects_nothing_twice() -> None:
    with pytest.raises(SpecError, match="inspections names 'weight_change' twice"):
        parse_spec({"kind": "report", "model": "pocket", "inspections": ["weight_change", "weight_change"]})


def test_a_row_is_asked_without_its_last_answer_and_its_loss_is_that_of_each_token_of_it(
    two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    """One row's answer is beyond the longest row: it is asked all the same, and only its loss is not known."""
    talks = [["Where?", "There.", "Why?", "Because it is so."], ["Who? " * 40, "He."], ["What?", "That.", "And?"], ["When?", "Now."]]
    messages = [[{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(talk)] for talk in talks]
    spec = EvaluateSpec(models=two[:1], sets=[{"data": asked([{"messages": row} for row in messages])}], max_tokens=2, max_length=40)
    found = tables(list(evaluate(spec, tmp_path, workspace)))
    model = make_model().from_pretrained(two[0], dtype=torch.float32).eval()
    read = [encode(pico_tokenizer, Example(messages=tuple(messages[n])), "last_answer", 40) for n in (0, 3)]
    (nats, tokens), (other, more) = (surprises(model, pad([row], 0))[0] for row in read)
    assert tokens != more and [(line["row"], line["wanted"]) for line in found[ANSWERS]] == [
        (1, "Because it is so."), (2, "He."), (4, "Now."),
    ]  # fmt: skip
    assert [line["loss (nats per token)"] for line in found[ANSWERS]] == [
        pytest.approx(nats / tokens, rel=1e-4), None, pytest.approx(other / more, rel=1e-4),
    ]  # fmt: skip
    (scores,) = found[SCORES]
    assert scores["loss (nats per token)"] == pytest.approx((nats + other) / (tokens + more), rel=1e-4)
    assert (scores["set"], scores["task"], scores["rows"]) == ("exam.jsonl", "exam.jsonl", 3)


def test_sets_are_counted_apart_though_their_tasks_are_called_alike(
    two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    said = {question: greedy(two[0], pico_tokenizer, question, 6) for question in ("Which town?", "Who?")}
    exam = asked([row(question, answer, kind="one") for question, answer in said.items()])
    quiz = asked([row("When was it?", "no such thing", kind="one")], "quiz")
    sets = [{"data": exam, "by": "kind"}, {"data": quiz, "by": "kind"}]
    events = list(evaluate(EvaluateSpec(models=two, sets=sets, max_tokens=6), tmp_path, workspace))
    found = tables(events)
    assert [(line["set"], line["rows"], line["right"]) for line in found[SCORES] if line["model"] == "base"] == [
        ("exam.jsonl", 2, 1.0), ("quiz.jsonl", 1, 0.0),
    ]  # fmt: skip
    counts = ["both right", "only the first", "only this one", "neither"]
    assert [(line["set"], *(line[name] for name in counts)) for line in found[AGAINST]] == [
        ("exam.jsonl", 0, 2, 0, 0), ("quiz.jsonl", 0, 0, 0, 1),
    ]  # fmt: skip
    numbers = {line["measure"]: line["value"] for line in found[NUMBERS] if line["model"] == "base"}
    assert (numbers["exam.jsonl · right"], numbers["quiz.jsonl · right"]) == (1.0, 0.0)
    says = [event.text for event in events if isinstance(event, Noted)]
    assert says[0].startswith("base answers 100.0% of 2 questions of exam.jsonl")
    assert says[1].startswith("base answers 0.0% of 1 question") and "quiz.jsonl" in says[1]


def test_only_the_part_that_a_pattern_finds_counts_and_models_of_one_name_are_told_apart(
    make: Callable, asked: Callable, workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    models = [make(f"{folder}/it", tie_word_embeddings=False) for folder in ("one", "two")]
    for folder in models:
        pico_tokenizer.save_pretrained(folder)
    answer = greedy(models[0], pico_tokenizer, "Which town?", 6)
    sets = [{"data": asked([row("Which town?", f"of course {answer.strip()[-1]}")]), "pattern": r"(\S)\s*$"}]
    found = tables(list(evaluate(EvaluateSpec(models=models, sets=sets, max_tokens=6), tmp_path, workspace)))
    assert len({line["model"] for line in found[SCORES]}) == 2 and [line["right"] for line in found[SCORES]] == [1.0, 1.0]


def test_without_a_set_it_is_what_runs_held_back_and_of_the_demo_model_its_own_skills(
    workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    (workspace.run("0001") / "spec.yaml").write_text("model: pocket\n")

    def sets(*models: str) -> set[str]:
        return {one.set for one in questions(EvaluateSpec(models=list(models)), pico_tokenizer, workspace)}

    assert sets("pocket") == {"known"} and sets("run:0001") == {"known", "quickstart, held back"}


def test_a_report_asks_the_base_first_and_hands_its_settings_on(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = list[Any]()
    numbers = [
        ["pocket", "exam · right", 0.0], ["pocket", "exam · loss", 2.0],
        ["run 0001", "exam · right", 1.0], ["run 0001", "exam · loss", 1.0],
    ]  # fmt: skip

    def heard(spec: Any, *_: Any) -> list[Event]:
        handed.append(spec)
        return [Table(NUMBERS, ["model", "measure", "value"], numbers if spec.kind == "evaluate" else [["run 0001", "moved", 0.5]])]

    monkeypatch.setattr(report_module, "evaluate", heard)
    monkeypatch.setattr(report_module, "inspect", heard)
    (workspace.run("0001") / "spec.yaml").write_text("model: pocket\n")
    knobs = {"max_length": 99, "seed": 7, "sets": [{"data": "exam"}]}
    events = list(report(ReportSpec(model="run:0001", inspections=["weight_change"], max_tokens=5, **knobs), tmp_path, workspace))
    asking, looking = handed
    assert asking.models == ["pocket", "run:0001"] and (asking.max_length, asking.seed, asking.max_tokens) == (99, 7, 5)
    assert asking.sets[0].data == "exam"
    assert (looking.models, looking.base, looking.max_length, looking.seed) == (["run:0001"], "pocket", 99, 7)
    assert [line["value"] for line in tables(events)[NUMBERS]] == [0.0, 2.0, 1.0, 1.0, 0.5]
    assert tables(events)[CHANGED][0]["what became of it"] == "learnt" and events[-1].message.startswith("Learnt: exam")


def test_an_answer_fewer_and_a_name_with_a_dot_in_it_are_read_as_they_are() -> None:
    numbers = [
        [model, f"{name} · right", share] for name, shares in {"a · b": (0.5, 0.25), "c": (0.5, 0.5)}.items()
        for model, share in zip(("base", "tuned"), shares, strict=True)
    ]  # fmt: skip
    assert [line[:2] for line in changed(numbers)] == [["c", "kept"], ["a · b", "lost"]]


def test_questions_alone_are_asked_and_nothing_is_marked(
    two: list[str], asked: Callable, workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    """A list of prompts that was brought in as questions: the answers stand side by side, and no share of right ones is made up; beside a
    set with answers, which is marked as ever. A column may hold what is right."""
    rows = [{"turns": ["Which town?", "And which street?"], "gold": "It is"}, {"turns": ["Who?"], "gold": "zzz", "by": "Be kind."}]
    list(ingest(Path(asked(rows, "prompts")), "prompts", workspace, {"question": "turns", "system": "by"}))
    prompts = questions(EvaluateSpec(models=two, sets=[{"data": "prompts"}]), pico_tokenizer, workspace)
    assert [[turn["role"] for turn in one.prompt] for one in prompts] == [["user"], ["system", "user"]]
    exam = asked([row("Who?", "Anna.")])
    events = list(evaluate(EvaluateSpec(models=two, sets=[{"data": "prompts"}, {"data": exam}], max_tokens=8), tmp_path, workspace))
    found = tables(events)
    open_ones = [line for line in found[ANSWERS] if line["set"] == "prompts"]
    assert [(line["model"], line["question"], line["wanted"], line["right"], line["loss (nats per token)"]) for line in open_ones] == [
        (model, question, "", None, None) for question in ("Which town?", "Be kind.\nWho?") for model in ("base", "tuned")
    ]
    assert open_ones[0]["answer"] == greedy(two[0], pico_tokenizer, "Which town?", 8)
    assert {line["set"] for line in (*found[SCORES], *found[AGAINST])} == {"exam.jsonl"}
    assert {line["measure"] for line in found[NUMBERS]} == {"exam.jsonl · right", "exam.jsonl · loss"}
    assert "base answered 2 questions of prompts, to which no right answer is known." in [
        event.text for event in events if isinstance(event, Noted)
    ]
    alone = tables(list(evaluate(EvaluateSpec(models=two, sets=[{"data": "prompts"}], max_tokens=8), tmp_path, workspace)))
    assert SCORES not in alone and AGAINST not in alone and alone[NUMBERS] == [] and changed([]) == []
    marked = EvaluateSpec(models=two[:1], sets=[{"data": "prompts", "column": "gold", "scorer": "contains"}], max_tokens=8)
    (scored,) = tables(list(evaluate(marked, tmp_path, workspace)))[SCORES]
    assert scored["rows"] == 2 and scored["loss (nats per token)"] is None
