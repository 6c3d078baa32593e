"""Near copies on both sides of the split: a row with a word changed is one, two rows of one template are none."""

import pytest

from workbench.core.job import drain
from workbench.jobs.astride import astride, same
from workbench.materials.rows import Example

ASKS = "Please answer the following question with true or false and with nothing else: {} Answer format: true or false."


def found(texts: list[str], groups: list[int], held: list[int]) -> list[int]:
    return drain(astride([Example(text=text) for text in texts], groups, [n for n in range(len(texts)) if n not in held], held))


def test_a_row_with_a_word_changed_is_the_same_and_one_on_its_own_side_does_not_count() -> None:
    tales = [f"The {n}th ship x{n} of captain y{n} sailed from z{n} to a{n} with b{n} and c{n} aboard." for n in range(30)]
    texts = [*tales, tales[0].replace("sailed", "went"), tales[1].replace("aboard", "below")]
    groups = [*range(30), 0, 1]
    assert found(texts, groups, [30, 5]) == [30]
    assert found(texts, groups, [1, 31]) == [], "both are held back"
    assert found(texts, groups, [0, 31]) == [0, 31] and found(texts, groups, []) == []


def test_rows_of_one_template_that_ask_other_things_are_not_the_same() -> None:
    """Near duplicates take them for one group, because most of their words are the template's."""
    texts = [ASKS.format(f"is the n{n} older than the m{n}?") for n in range(40)]
    assert found(texts, [0] * 40, [3, 7, 11]) == []
    assert found([*texts, ASKS.format("older than the m5 is the n5?")], [0] * 41, [40]) == [40]


@pytest.mark.parametrize(
    ("one", "other", "alike"), [("abcdefg", "abcdefx", True), ("abc", "abcdefg", False), ("", "", False), ("a", "b", False)]
)
def test_most_rare_words_of_both_must_be_shared(one: str, other: str, alike: bool) -> None:
    assert same(set(one), set(other)) is alike
