"""Safety drift: phrases that are found however they are written, shares with their limits, and who changed its mind."""

from pathlib import Path

import pytest
from subjects import subject, unchanged
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.events import Table
from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.core.ratings import wilson
from workbench.materials.answered import excerpt
from workbench.materials.subject import Subject
from workbench.methods.inspections import safety_drift
from workbench.methods.inspections.safety_drift import SafetyDrift, plain, refuses


@pytest.fixture
def laid(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Subject:
    return subject(tmp_path, pico_tokenizer, [unchanged], count=10)


def told(method: SafetyDrift, laid: Subject) -> tuple[Finding, dict[str, Table]]:
    finding = drain(method.inspect(laid))
    return finding, {table.name: table for table in finding.tables}


def scripted(monkeypatch: pytest.MonkeyPatch, laid: Subject, base: list[str], tuned: list[str]) -> None:
    """The two models answer as they are told to, in the order of the questions."""
    lines = {id(laid.base): iter(base), id(laid.tuned(0)): iter(tuned)}

    def speak(model: PreTrainedModel, tokenizer: object, prompts: list[list[int]], most: int) -> list[str]:
        return [next(lines[id(model)]) for _ in prompts]

    monkeypatch.setattr(safety_drift, "spoken", speak)


def test_a_refusal_is_known_however_it_is_written() -> None:
    phrases = [plain(phrase) for phrase in safety_drift.PHRASES.split(";")]
    for answer in ("I’m sorry, but no.", "i CANNOT help", "Well, as an\nAI model …", "No: I can't."):
        assert refuses(answer, phrases), answer
    for answer in ("Take two eggs.", "", "The sorry state of the roads."):
        assert not refuses(answer, phrases), answer


def test_shares_limits_and_changes(monkeypatch: pytest.MonkeyPatch, laid: Subject) -> None:
    no, sure = "I cannot do that.", "Sure, here it is."
    scripted(monkeypatch, laid, [no] * 8 + [sure] * 2, [no] * 3 + [sure] * 6 + [no])
    finding, tables = told(SafetyDrift(), laid)
    assert finding.numbers["tuned 0"] == {"refusals": pytest.approx(0.4), "change in refusals": pytest.approx(-0.4)}
    assert [row[:4] for row in tables["shares"].rows] == [["base", 10, 8, 0.8], ["tuned 0", 10, 4, 0.4]]
    assert tables["shares"].rows[1][4:] == pytest.approx(list(wilson(4, 10)))
    assert tables["changed"].rows == [["tuned 0", "refuses no more", 5], ["tuned 0", "refuses now", 1]]
    assert "refuses 4 of 10" in finding.says[0] and "5 no more and 1 anew" in finding.says[0]
    assert tables["answers"].rows[9][2:] == [False, True, sure, no]


def test_the_phrases_are_the_users(monkeypatch: pytest.MonkeyPatch, laid: Subject) -> None:
    scripted(monkeypatch, laid, ["Das geht leider nicht."] * 10, ["Gern."] * 10)
    finding, _ = told(SafetyDrift(phrases="geht leider nicht; ;"), laid)
    assert finding.numbers["tuned 0"]["change in refusals"] == -1
    with pytest.raises(WorkbenchError, match="under phrases"):
        drain(SafetyDrift(phrases=" ; ").inspect(laid))


def test_it_asks_the_questions_without_their_answers_and_keeps_to_the_room_there_is(monkeypatch: pytest.MonkeyPatch, laid: Subject) -> None:
    asked, most = list[list[int]](), set[int]()

    def speak(model: PreTrainedModel, tokenizer: object, prompts: list[list[int]], tokens: int) -> list[str]:
        asked.extend(prompts)
        most.add(tokens)
        return ["Yes."] * len(prompts)

    monkeypatch.setattr(safety_drift, "spoken", speak)
    _, tables = told(SafetyDrift(most_tokens=6), laid)
    expected = [row.ids[: row.trained.index(True)] for row in laid.rows[""]]
    assert asked == [*expected, *expected] and most == {6}
    assert [row[1] for row in tables["answers"].rows] == [excerpt(example.question()) for example in laid.examples[""]]
    told(SafetyDrift(most_tokens=1000), laid)
    assert max(most) == 128 - max(map(len, expected))


def test_a_question_that_leaves_no_room_is_an_error(laid: Subject) -> None:
    laid.base.config.max_position_embeddings = 5
    with pytest.raises(WorkbenchError, match="shorten"):
        drain(SafetyDrift().inspect(laid))
