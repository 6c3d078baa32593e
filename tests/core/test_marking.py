"""What counts as a right answer, and when a difference between two models is more than chance."""

import re

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.marking import by_chance, compiled, part, right


@pytest.mark.parametrize(
    ("scorer", "wanted", "answer", "is_right"),
    [
        ("exact match", "Paris", " paris\n", True),
        ("exact match", "Paris", "in Paris", False),
        ("exact match", "new  york", "New York", True),
        ("contains", "Paris", "It is in PARIS, of course.", True),
        ("contains", "Paris", "London", False),
        ("contains", "", "anything", False),
        ("matches", r"\b4[0-9]\b", "some 42 of them", True),
        ("matches", r"\b4[0-9]\b", "some 142 of them", False),
    ],
)
def test_an_answer_is_right_by_its_scorer(scorer: str, wanted: str, answer: str, is_right: bool) -> None:
    assert right(scorer, wanted, answer) is is_right


def test_only_the_part_that_counts_is_compared_on_both_sides() -> None:
    taken = re.compile(r"####\s*(\S+)")
    assert right("exact match", "so it is 6 * 7\n#### 42", "first #### 41, no, #### 42", taken), "the last one found counts"
    assert right("exact match", "42", "#### 42", taken), "what is wanted may be the bare answer"
    assert not right("exact match", "42", "42", taken), "an answer without the part is wrong"
    assert part(re.compile("[0-9]+"), "1 and 22") == "22" and part(taken, "nothing") is None


def test_a_pattern_that_is_none_is_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match=r"^Row 3 '\(' is no regular expression: .*Mend it"):
        compiled("(", "Row 3")


def test_chance_is_the_two_sided_tail_of_a_fair_coin() -> None:
    assert by_chance(0, 0) == 1.0 and by_chance(3, 3) == 1.0
    assert by_chance(0, 5) == by_chance(5, 0) == pytest.approx(2 / 2**5)
    assert by_chance(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
