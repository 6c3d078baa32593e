"""A talk: what each model remembers, what is taken back, whose names are told when."""

from dataclasses import replace

from workbench.core.asking import CompareSpec, Exchange
from workbench.core.events import Said, Table
from workbench.ui import answers
from workbench.ui.talk import Talk, recalled


def turn(prompt: str, run: str = "0001", **said: str) -> answers.Answers:
    """A turn that is over, with what each model said; one without words has said nothing yet."""
    asked = replace(answers.asked(prompt, list(said), {}), run=run)
    for model, words in said.items():
        asked = asked.heard(Said(1, model, prompt, words)) if words else asked
    return asked.with_words("", over=True)


def test_each_model_remembers_its_own_answers() -> None:
    talk = Talk().with_turn(turn("one", a="A1", b="B1")).onward().with_turn(turn("two", a="A2", c="C2")).onward()
    assert talk.history(["a", "b"]) == [
        Exchange(prompt="one", answers={"a": "A1", "b": "B1"}),
        Exchange(prompt="two", answers={"a": "A2"}),
    ]
    assert [exchange.prompt for exchange in talk.history(["b"])] == ["one"]


def test_a_stopped_answer_is_kept_and_a_question_without_any_is_dropped() -> None:
    stopped = Talk().with_turn(turn("one", a="half an ans", b=""))
    assert stopped.onward().history(["a", "b"]) == [Exchange(prompt="one", answers={"a": "half an ans"})]
    assert Talk().with_turn(turn("one", a="")).onward() == Talk()


def test_taking_back_drops_the_last_turn_alone() -> None:
    talk = Talk().with_turn(turn("one", a="A1")).onward().with_turn(turn("two", a="A2"))
    back = talk.without_last()
    assert [exchange.prompt for exchange in back.history(["a"])] == ["one"] and not back.now.panes


def test_letters_stay_with_their_models_until_they_are_told() -> None:
    first = Talk().with_turn(turn("one", run="0005", a="1", b="2").shuffled("0005"))
    assert first.onward().lot("0006") == "0005", "A stays A while nobody knows who it is"
    told = first.revealed("B is best")
    assert told.onward().lot("0006") == "0006" and Talk().lot("0001") == "0001"


def test_a_vote_tells_all_names_of_the_talk() -> None:
    talk = Talk().with_turn(turn("one", a="1", b="2").shuffled("x")).onward().with_turn(turn("two", a="1", b="2").shuffled("x"))
    told = talk.revealed("a tie")
    assert not told.now.hidden and not told.past[0].hidden and told.now.verdict == "a tie"


def test_a_talk_on_record_goes_on_where_it_stood() -> None:
    """What is kept of a comparison is enough: its spec with the talk before it, what was said, and what was seen of the tokens."""
    history = [Exchange(prompt="one", answers={"b": "B1", "gone": "x"})]
    spec = CompareSpec(models=["a", "b"], prompt="two", history=history)
    said = [Said(1, "b", "two", "B2", [["B2", -1.0, -1.0]]), Said(1, "a", "two", "A2", [["A2", -1.0, -1.0]])]
    seen = Table("tokens of a", ["place", "token", "model", "logp", "kl", "likeliest"], [[0, "A2", "a", -1.0, 0.0, []]])
    talk = recalled("0009", spec, said, [seen], {"a": "model a"})
    assert list(talk.now.panes) == ["a", "b"] and talk.now.base == "a" and talk.now.over and talk.now.run == "0009"
    assert talk.past[0].base == "a", "who the base is does not hang on who answered"
    assert talk.now.words() == {"a": "A2", "b": "B2"} and talk.now.panes["a"].places and talk.now.names()["a"] == "model a"
    assert talk.onward().history(["a", "b"]) == [
        Exchange(prompt="one", answers={"b": "B1"}),
        Exchange(prompt="two", answers={"a": "A2", "b": "B2"}),
    ]
