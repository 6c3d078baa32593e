"""What a person does to single rows: twice is never, the step stands first, and an empty one goes."""

import pytest

from workbench.jobs.handiwork import is_gone, rewritten, toggled

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
    assert both["selectors"][0]["drop"] == "ff" and text in __import__("json").loads(both["selectors"][0]["edits"]).values()
