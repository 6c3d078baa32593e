"""What a person does to single rows: twice is never, the step stands first, and an empty one goes."""

import json

import pytest

from workbench.jobs.handiwork import answer_of, is_gone, keeping_hands, rewritten, toggled

OTHER = {"method": "length", "most": 9}
RECIPE = {"path": "mine", "selectors": [OTHER]}


def test_a_row_is_dropped_and_brought_back() -> None:
    once = toggled(RECIPE, "aa")
    assert once["selectors"][0]["drop"] == "aa" and once["selectors"][1] == OTHER and is_gone(once, "aa") and not is_gone(RECIPE, "aa")
    twice = toggled(once, "bb")
    assert twice["selectors"][0]["drop"] == "aa bb" and not is_gone(toggled(twice, "aa"), "aa") and is_gone(toggled(twice, "aa"), "bb")
    assert toggled(toggled(twice, "aa"), "bb") == RECIPE


@pytest.mark.parametrize("text", ["Ünï", 'a "quote"\n', ""])
def test_an_answer_is_rewritten_and_put_back(text: str) -> None:
    once = rewritten(RECIPE, "aa", text, before="b")
    assert rewritten(once, "aa", "b", before="b") == RECIPE and once["selectors"][1] == OTHER
    both = toggled(rewritten(once, "cc", "d", before="e"), "ff")
    assert both["selectors"][0]["drop"] == "ff" and text in json.loads(both["selectors"][0]["edits"]).values()


def test_a_form_that_was_drawn_earlier_takes_nothing_back() -> None:
    drawn = toggled(RECIPE, "aa")["selectors"][0]
    now = toggled(toggled(RECIPE, "aa"), "bb")["selectors"][0]
    assert keeping_hands(now, {**drawn, "skip": True}) == {**now, "skip": True}
    assert keeping_hands(OTHER, {**OTHER, "most": 5}) == {**OTHER, "most": 5}


def test_what_is_offered_for_rewriting_is_what_a_person_wrote_else_what_the_file_says() -> None:
    once = rewritten(RECIPE, "aa", "mine", before="theirs")
    assert answer_of(once, "aa", "theirs") == "mine" and answer_of(once, "bb", "theirs") == "theirs"


def test_two_such_steps_become_one_and_nonsense_loses_nothing_else() -> None:
    two = {**RECIPE, "selectors": [*toggled(RECIPE, "aa")["selectors"], *rewritten(RECIPE, "bb", "x", "y")["selectors"]]}
    one = toggled(two, "cc")["selectors"]
    assert [step["method"] for step in one] == ["by_hand", "length", "length"]
    assert one[0]["drop"].split() == ["aa", "cc"] and json.loads(one[0]["edits"]) == {"bb": "x"}
    typed = {**RECIPE, "selectors": [{**one[0], "edits": "{nonsense"}]}
    assert json.loads(rewritten(typed, "dd", "x", "y")["selectors"][0]["edits"]) == {"dd": "x"}
