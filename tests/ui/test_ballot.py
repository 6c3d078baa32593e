"""Voting: buttons only while there is something to vote on, a verdict means the pane it names, and the table says what it shows."""

from dataclasses import replace

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Said
from workbench.core.ratings import Vote, ratings
from workbench.ui import answers, ballot
from workbench.ui.answers import Answers
from workbench.ui.talk import Talk


def blind(*models: str, silent: str = "") -> Answers:
    """A blind question that is over; the silent model never came to a word."""
    asked = answers.asked("hi", models, {model: f"label of {model}" for model in models})
    for model in models:
        asked = asked if model == silent else asked.heard(Said(1, model, "hi", f"{model} says"))
    return asked.with_words("", over=True).shuffled("0003")


def test_there_is_a_button_and_a_key_for_each_pane() -> None:
    drawn = ballot.ballot(blind("a", "b", "c"))
    assert [f"<kbd>{key}</kbd>" in drawn for key in "1234"] == [True, True, True, False]
    assert "C is best" in drawn and 'data-verdict="tie"' in drawn and 'data-verdict="bad"' in drawn
    assert "label of" not in drawn


def test_nothing_to_vote_on_unless_all_have_answered_blind() -> None:
    assert "is best" not in ballot.ballot(blind("a", "b", silent="b")) and "Show names" in ballot.ballot(blind("a", "b", silent="b"))
    assert ballot.ballot(replace(blind("a", "b"), over=False)) == ""
    assert ballot.ballot(replace(blind("a", "b"), blind=False)) == ""
    assert "Your vote: a tie." in ballot.ballot(replace(blind("a", "b"), revealed=True, verdict="a tie"))


def test_a_verdict_names_the_pane_in_the_order_that_was_shown() -> None:
    asked = blind("a", "b", "c", "d")
    order = list(asked.panes)
    for place, model in enumerate(order):
        outcome, winner, words = ballot.cast(asked, str(place))
        assert (outcome, winner) == ("best", model)
        assert words == f"{'ABCD'[place]} · label of {model} is best"
    assert ballot.cast(asked, "tie")[:2] == ("tie", "") and ballot.cast(asked, "bad")[:2] == ("bad", "")
    with pytest.raises(WorkbenchError, match="Vote with the buttons"):
        ballot.cast(asked, "7")


def test_what_can_be_done_with_a_turn_stands_below_it_once_it_is_over() -> None:
    now = answers.asked("hi", ["a"], {})
    assert ballot.tools(Talk(now=now)) == ""
    drawn = ballot.tools(Talk(now=now.with_words("", over=True)))
    assert all(word in drawn for word in ("Regenerate", "Edit", "New talk"))
    past = ballot.newest(Talk(past=(blind("a", "b").settled(),)))
    assert "New talk" in past and "Regenerate" not in past, "a question that was taken back cannot be asked again"


def test_the_table_of_ratings_escapes_names_and_says_what_the_figures_mean() -> None:
    votes = [Vote("0001", "hi", {"a": "<b>one", "b": "two"}, "best", "a")]
    drawn = ballot.table(ratings(votes), len(votes))
    assert "&lt;b&gt;one" in drawn and "<b>one" not in drawn
    assert "1,016" in drawn and "984" in drawn and "From 1 vote." in drawn and "100%" in drawn
    assert "No votes yet" in ballot.table([], 0)
