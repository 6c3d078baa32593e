"""From the controls to a run and back: mistakes all at once, a talk goes along, and nobody's question runs on when nobody listens."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from workbench.core.asking import CompareSpec, Exchange
from workbench.core.errors import SpecError
from workbench.core.events import Event, Finished, Noted, Progress, Said, Started
from workbench.core.workspace import Workspace
from workbench.ui import answers, asking, forms
from workbench.ui.asking import Moment, Question, heard, next_question, told
from workbench.ui.talk import Talk


@pytest.fixture
def question() -> Question:
    with gr.Blocks():
        boxes = [gr.Textbox() for _ in range(2)]
        return Question(gr.Dropdown(multiselect=True), gr.Checkbox(), *boxes, gr.State({}), forms.fields(asking.KNOBS, {}, "compare"))


def given(question: Question, **values: Any) -> dict[Any, Any]:
    """What a handler is given: the controls as they stand, with `values` in them by name."""
    standing = {widget: widget.value for widget in question.knobs.values()}
    standing |= {question.models: ["a", "b"], question.blind: False, question.prompt: "Why?", question.system: ""}
    standing[question.decoder] = {"method": "plain"}
    fields = {**question.knobs, "models": question.models, "blind": question.blind, "prompt": question.prompt}
    return standing | {fields[name]: value for name, value in values.items()}


def a_turn(prompt: str = "One?") -> answers.Answers:
    return (
        answers.asked(prompt, ["a", "b"], {}).heard(Said(1, "a", prompt, "A1")).heard(Said(1, "b", prompt, "B1")).with_words("", over=True)
    )


def test_all_mistakes_are_told_at_once(question: Question) -> None:
    with pytest.raises(SpecError) as error:
        next_question(question, given(question, models=["a", "a"], prompt=" ", max_tokens="many"), Talk(), again=False)
    assert len(error.value.mistakes) == 3 and "chosen twice" in str(error.value) and "empty" in str(error.value)
    with pytest.raises(SpecError, match="no model is chosen"):
        next_question(question, given(question, models=None), Talk(), again=False)


def test_one_model_alone_cannot_be_blind(question: Question) -> None:
    with pytest.raises(SpecError, match="choose another beside it"):
        next_question(question, given(question, models=["a"], blind=True), Talk(), again=False)


def test_the_talk_so_far_goes_along(question: Question) -> None:
    spec, before = next_question(question, given(question), Talk(now=a_turn()), again=False)
    assert spec.history == [Exchange(prompt="One?", answers={"a": "A1", "b": "B1"})] and spec.prompt == "Why?"
    assert [turn.prompt for turn in before.past] == ["One?"] and not before.now.panes


def test_again_asks_the_last_question_with_the_next_seed_and_forgets_its_answers(question: Question) -> None:
    spec, before = next_question(question, given(question, prompt="", seed="6"), Talk(now=a_turn()), again=True)
    assert (spec.prompt, spec.seed, spec.history) == ("One?", 7, []) and before == Talk()
    spec, _ = next_question(question, given(question, seed=str(2**31 - 1)), Talk(now=a_turn()), again=True)
    assert spec.seed == 0, "after the largest seed comes the first"


def test_what_the_job_says_becomes_answers() -> None:
    now = answers.asked("Why?", ["a"], {})
    assert heard(now, Started(5, {"template": "<|user|>Why?"})).template == "<|user|>Why?"
    assert heard(now, Progress(1, 2, "loading a")).says == "Loading a …"
    assert heard(now, Progress(1, 5, "tokens")) is now
    assert heard(now, Noted("a has room for 3.")).says == "a has room for 3."
    assert "room" not in heard(now.shuffled("1"), Noted("a has room for 3.")).says, "a note may name the model that stops early"
    spoken = heard(now, Said(1, "a", "Why?", "Be", done=False))
    assert spoken.words() == {"a": "Be"} and not spoken.over


def test_an_end_is_said_in_words_and_what_was_said_stays() -> None:
    now = answers.asked("Why?", ["a"], {})
    spoken = heard(now, Said(1, "a", "Why?", "Be", done=False))
    assert "what was said stays" in heard(spoken, Finished("stopped")).says and heard(spoken, Finished("stopped")).words()
    assert "first word" in heard(now, Finished("stopped")).says
    failed = heard(spoken, Finished("failed", "The disk is full."))
    assert failed.says == "The disk is full." and failed.over and failed.words() == {"a": "Be"}
    assert heard(spoken, Finished("finished", "1 answers.")).says == ""


class Runner:
    """Gives the events of one run, and remembers what was stopped."""

    def __init__(self, events: list[Event]):
        self.events, self.stopped = events, list[str]()

    def submit(self, spec: CompareSpec) -> str:
        return "0042"

    def watch(self, run: str) -> Iterator[Event]:
        return iter(self.events)

    def stop(self, run: str) -> None:
        self.stopped.append(run)


STANDING = Talk(now=a_turn())


def told_by(events: list[Event], home: Path, blind: bool = False) -> tuple[Runner, Iterator[Moment]]:
    runner = Runner(events)
    ctx: Any = SimpleNamespace(runner=runner, workspace=Workspace(home))
    return runner, told(ctx, CompareSpec(models=["a", "b", "c", "d"], prompt="Why?"), STANDING, STANDING.onward(), blind)


def test_many_tokens_in_a_moment_are_one_update_and_the_end_is_always_told(tmp_path: Path) -> None:
    growing: list[Event] = [Said(n, "a", "Why?", "x" * n, done=False) for n in range(1, 500)]
    runner, stream = told_by([*growing, Finished("finished")], tmp_path)
    seen = list(stream)
    assert len(seen) < 50, "the browser is spared: at most ten a second"
    assert [moment.first for moment in seen] == [True] + [False] * (len(seen) - 1)
    assert seen[-1].over and seen[-1].talk.now.words() == {"a": "x" * 499} and runner.stopped == []
    assert [turn.prompt for turn in seen[-1].talk.past] == ["One?"]


def test_a_question_without_a_word_of_answer_leaves_the_talk_as_it_was(tmp_path: Path) -> None:
    _, stream = told_by([Finished("failed", "There is no model a.")], tmp_path)
    last = list(stream)[-1]
    assert last.lost and last.over and last.talk == STANDING and last.says == "There is no model a."


def test_a_closed_page_stops_its_question(tmp_path: Path) -> None:
    runner, stream = told_by([Said(1, "a", "Why?", "x", done=False), Finished("finished")], tmp_path)
    next(stream)
    stream.close()
    assert runner.stopped == ["0042"]


def test_a_blind_question_is_shuffled_by_its_run_and_the_job_knows_nothing_of_it(tmp_path: Path) -> None:
    _, stream = told_by([Finished("finished")], tmp_path, blind=True)
    now = next(stream).talk.now
    assert now.hidden and now.base == "a" and now.run == "0042"
    assert list(now.panes) == list(answers.asked("", ["a", "b", "c", "d"], {}).shuffled("0042").panes)
